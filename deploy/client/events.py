"""Events of a job as they come: Server-Sent Events, taken up again where a connection ended.

https://html.spec.whatwg.org/multipage/server-sent-events.html, without I/O.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from contract.errors import FuseboxError
from deploy.client.answers import fault_of
from deploy.client.request import Lost, Reply, Request, job_path
from deploy.client.talk import Talk
from deploy.errors import Unreachable

EVENT_STREAM = "text/event-stream"
# A stream that is silent for so long, without even a comment, is taken for broken.
SILENCE_S = 60.0
# The last event holds the result.
MAX_EVENT_BYTES = 256 * 2**20
LAST = "done"


class Event(NamedTuple):
    """What happened to a job: `queued`, `started`, `progress` or `done`, and what is said of it."""

    id: str
    kind: str
    data: Any


class Parser:
    """Events out of bytes, however these are cut; `last_id` is where to go on."""

    def __init__(self, last_id: str = "", max_bytes: int = MAX_EVENT_BYTES) -> None:
        self.last_id = self._id = last_id
        self._max_bytes = max_bytes
        # a line that has not ended, and the lines of data of an event that has not
        self._line, self._data = bytearray(), bytearray()
        self._kind = ""
        self._is_first, self._ended_with_cr = True, False

    def feed(self, part: bytes) -> list[Event]:
        """The events that end in this part; raises FuseboxError for one that is too large."""
        if not part:
            return []
        if self._ended_with_cr:
            part = part.removeprefix(b"\n")
        self._ended_with_cr = part.endswith(b"\r")
        *ended, last = part.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events = []
        for line in ended:
            self._line += line
            event = self._take(bytes(self._line))
            self._line.clear()
            if event is not None:
                events.append(event)
        self._line += last
        if len(self._line) + len(self._data) > self._max_bytes:
            raise FuseboxError(f"events: expected at most {self._max_bytes} bytes in one")
        return events

    def _take(self, line: bytes) -> Event | None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return self._end()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._kind = value.decode(errors="replace")
        elif name == b"data":
            self._data += value + b"\n"
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        # a comment has no name; `retry` is the affair of `Retries`
        return None

    def _end(self) -> Event | None:
        self.last_id = self._id
        kind, data = self._kind or "message", bytes(self._data[:-1])
        is_empty = not self._data
        self._kind = ""
        self._data.clear()
        return None if is_empty else Event(self.last_id, kind, _value(data))


class Following:
    """One job's events over as many connections as it takes."""

    def __init__(self, talk: Talk, job_id: str, now_s: float, last_id: str = "") -> None:
        self._talk = talk
        self._path = f"{job_path(job_id)}/events"
        self._parser = Parser(last_id)
        self._attempt, self._since_s = 0, now_s
        self._failed: FuseboxError | None = None
        self._after_s: float | None = None
        self.is_done = False

    @property
    def request(self) -> Request:
        """What to send next."""
        headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"}
        if self._parser.last_id:
            headers["Last-Event-ID"] = self._parser.last_id
        return Request("GET", self._path, headers=headers, patience_s=SILENCE_S, is_repeatable=True)

    def take(self, part: Reply | Lost | bytes, now_s: float) -> list[Event]:
        """The events in a part of an answer; raises what the platform refuses with."""
        if isinstance(part, bytes):
            # comments too: a job that runs long has nothing to tell
            self._attempt, self._since_s, self._failed = 0, now_s, None
            events = self._parser.feed(part)
            self.is_done = any(event.kind == LAST for event in events)
            return events
        # what is half there is sent again
        self._parser = Parser(self._parser.last_id)
        fault = fault_of(part, self._talk.url)
        if fault is not None:
            if not fault.is_passing:
                raise fault.error
            self._failed, self._after_s = fault.error, fault.after_s
        elif isinstance(part, Reply) and part.status == 204:
            # there is nothing after the event that was named
            self.is_done = True
        elif isinstance(part, Reply):
            media = part.headers.get("content-type", "")
            if part.status != 200 or not media.startswith(EVENT_STREAM):
                raise FuseboxError(f"events: expected {EVENT_STREAM}, got {part.status} {media!r}")
        return []

    def pause_s(self, now_s: float) -> float:
        """Seconds until the next connection; raises what the last ones ended with."""
        self._attempt += 1
        url = self._talk.url
        ended = self._failed or Unreachable(f"{url} ends the events of a job early", url=url)
        after_s, self._after_s = self._after_s, None
        return self._talk.pause_s(self._attempt, now_s - self._since_s, ended, after_s)


def _value(data: bytes) -> Any:
    text = data.decode(errors="replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
