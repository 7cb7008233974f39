"""How webhooks are told: what stands in the body, by the format that a destination names.

A door adds the format of its protocol with `FORMATS[NAME] = Format(make)`; NAME is then said as
`NAME+https://...`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from contract.errors import FuseboxError
from contract.job import Job
from contract.origin import Origin
from gateway.answer import JSON, dumps, rfc3339
from gateway.job_answers import record_of

STRUCTURED = "application/cloudevents+json"
# An event beyond this comes without the result, which is fetched.
MAX_EVENT_BYTES = 2**20
_RESULTS = ("outputs", "result")
TYPE_PREFIX = "dev.fusebox.job."


class Message(NamedTuple):
    """What is sent; signature, id and trace context are added to the headers."""

    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


class End(NamedTuple):
    """An ended job, as a format gets it."""

    job: Job
    # Unix seconds
    at_s: float
    # its input as it was stored, where the format asks for it; else b""
    payload: bytes = b""


class Format(NamedTuple):
    """One way to tell of an end."""

    make: Callable[[End], Message]
    needs_payload: bool = False


class UnknownFormat(FuseboxError):
    """No webhook format has this name."""


def event_of(end: End) -> dict[str, Any]:
    """The end of a job as a CloudEvent 1.0; a repeat has the same source and id."""
    job, spec = end.job, end.job.spec
    event = {
        "specversion": "1.0",
        "id": spec.id,
        "source": f"/v1/functions/{spec.function}",
        "type": f"{TYPE_PREFIX}{job.status}",
        "subject": spec.id,
        "time": rfc3339(end.at_s),
        "datacontenttype": JSON,
        "data": record_of(job, JSON),
    }
    return event | trace_of(job.origin)


def trace_of(origin: Origin) -> dict[str, str]:
    """The trace context of a job, as headers and events carry it."""
    if not origin.traceparent:
        return {}
    state = {"tracestate": origin.tracestate} if origin.tracestate else {}
    return {"traceparent": origin.traceparent} | state


def encoded(event: dict[str, Any]) -> bytes:
    """An event in structured mode; where it is too large it says where its result is found."""
    body = dumps(event)
    if len(body) <= MAX_EVENT_BYTES:
        return body
    data = {name: value for name, value in event["data"].items() if name not in _RESULTS}
    # https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/dataref.md
    return dumps(event | {"data": data, "dataref": f"/v1/jobs/{event['subject']}"})


def cloudevent(end: End) -> Message:
    """A CloudEvent in structured mode."""
    return Message(encoded(event_of(end)), STRUCTURED)


FORMATS: dict[str, Format] = {"cloudevent": Format(cloudevent)}


def format_of(name: str) -> Format:
    """The format of this name; raises UnknownFormat."""
    found = FORMATS.get(name)
    if found is None:
        raise UnknownFormat(f"no format is called {name}; there are {', '.join(sorted(FORMATS))}")
    return found
