"""Events of a job as Server-Sent Events: queued, started, progress, done.

https://html.spec.whatwg.org/multipage/server-sent-events.html. A client that comes back with
`Last-Event-ID` gets what it missed, from whichever gateway process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from contract.errors import StoreUnavailable, UnknownJob
from contract.events import AGAIN, DONE, EventId, Followed
from contract.job import Job, JobId, Status
from contract.log import Log
from contract.trail import Planned
from gateway import job_answers as answers
from gateway.answer import Answer, dumps, rfc3339
from gateway.context import Gateway
from gateway.following import Follower
from gateway.jobs import checked
from gateway.preferences import negotiate

log = Log("gateway")
EVENT_STREAM = "text/event-stream"
# A comment after this long without an event: shorter than proxies wait, and how a client that
# went away without a word is found.
HEARTBEAT_S = 15.0
# How long a client waits before it comes back, milliseconds.
RETRY_MS = 1_000
# a job's first event: everything comes after this
_START = EventId(0, 0)


class Event(NamedTuple):
    """One event; `data` is JSON in one line."""

    id: EventId
    name: str
    data: bytes

    def encode(self) -> bytes:
        """As a stream has it."""
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (
            str(self.id).encode(),
            self.name.encode(),
            self.data,
        )


def events_of(followed: Followed, after: EventId | None) -> list[Event]:
    """The events that follow from a record and its progress, those after `after`, in order."""
    job, fence = followed.job, followed.fence
    found = [Event(_START, "queued", dumps(_queued(job, job.spec.accepted_at_s)))]
    if fence:
        found.append(Event(EventId(fence, 0), "started", dumps(_started(job))))
    found += [
        Event(id_, "progress", dumps({"number": id_.number, "data": orjson.Fragment(data)}))
        for id_, data in followed.progress
    ]
    if fence and job.status == Status.QUEUED:
        found.append(Event(EventId(fence, AGAIN), "queued", dumps(_queued(job, None))))
    if job.outcome is not None:
        found.append(Event(EventId(fence, DONE), "done", answers.shown(job, "").body))
    return sorted(event for event in found if after is None or event.id > after)


def _queued(job: Job, at_s: float | None) -> dict[str, object]:
    spec = job.spec
    record: dict[str, object] = {
        "job": spec.id,
        "function": spec.function,
        "version": spec.version,
        "attempts": job.attempts,
    }
    return record | ({} if at_s is None else {"at": rfc3339(at_s)})


def _started(job: Job) -> dict[str, object]:
    record: dict[str, object] = {"job": job.spec.id, "attempts": job.attempts}
    if job.trail.planned:
        planned = Planned.decode(job.trail.planned)
        record |= {"at": rfc3339(planned.claimed_at_s), "predicted_ms": planned.predicted_s * 1000}
    return record


class EventStream:
    """The body of one stream; `close` gives its place back, however far it was read."""

    def __init__(self, gateway: Gateway, follower: Follower, after: EventId | None) -> None:
        self._gateway = gateway
        self._follower = follower
        self._after = after
        self.is_over = False
        self._parts: deque[bytes] = deque([b"retry: %d\n" % RETRY_MS])
        self._read()

    @property
    def is_empty(self) -> bool:
        """Whether the job has settled and its last event was seen: there is nothing to come."""
        return self.is_over and len(self._parts) == 1

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """The next events, or a comment when none came for a while; ends with the job."""
        while not self._parts:
            if self.is_over or self._gateway.following.is_released:
                raise StopIteration
            is_woken = self._follower.wait(HEARTBEAT_S)
            try:
                self._read()
            except (StoreUnavailable, UnknownJob) as error:
                # the client comes back, and is told then what is wrong
                log.warning("stream_ended", job=self._follower.job, reason=error)
                raise StopIteration from error
            if not (self._parts or is_woken):
                # no blank line: some clients take one for an event without data
                self._parts.append(b": nothing new\n")
        return self._parts.popleft()

    def close(self) -> None:
        """The client has gone, or has everything."""
        self._follower.leave()

    def _read(self) -> None:
        after = self._after
        followed = self._gateway.store.events.follow(
            self._follower.job, self._gateway.following.gateway_id, after or _START
        )
        for event in events_of(followed, after):
            self._parts.append(event.encode())
            self._after = event.id
        self.is_over = followed.job.outcome is not None


def events(gateway: Gateway, job_id: str, accept: str, last_event_id: str) -> Answer | EventStream:
    """GET /v1/jobs/<id>/events; 204 tells a client that has seen the end not to come back."""
    job = checked(job_id)
    negotiate(accept, (EVENT_STREAM,))
    after = EventId.parse(last_event_id) if last_event_id else None
    follower = gateway.following.join(JobId(job))
    try:
        stream = EventStream(gateway, follower, after)
    except BaseException:
        follower.leave()
        raise
    if stream.is_empty:
        stream.close()
        return Answer(b"", 204)
    return stream
