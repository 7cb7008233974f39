"""Server-Sent Events as a client reads them, and a job followed over lost connections."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from deploy.errors import Unreachable

if TYPE_CHECKING:
    from deploy.client import Client

# between two connections, and of those that fail one after another
RETRY_S = 1.0
RETRIES = 5


class Event(NamedTuple):
    """One event of a stream."""

    id: str
    name: str
    data: Any


def read_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream; comments and fields without a meaning here are left out."""
    last_id, name = "", ""
    data: list[str] = []
    for raw in lines:
        line = raw.decode(errors="replace").rstrip("\r\n")
        if not line:
            if data:
                yield Event(last_id, name, json.loads("\n".join(data)))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            last_id = value
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)


def follow(client: Client, job_id: str) -> Iterator[Event]:
    """A job's events until it has ended; raises what the platform answers, and Unreachable."""
    last_id, failures = "", 0
    while True:
        try:
            with client.events(job_id, last_id) as lines:
                for event in read_events(lines):
                    last_id, failures = event.id, 0
                    yield event
                    if event.name == "done":
                        return
        except Unreachable:
            failures += 1
            if failures > RETRIES:
                raise
        time.sleep(RETRY_S)  # as the stream's `retry` says; a process that stops ends its streams
