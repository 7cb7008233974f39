"""From a trigger and an event to a call of its function.

A call is claimed under trigger, source and id of the event, so that an event that comes again,
within the time that its job's record is kept, is the job that it was.
"""

from __future__ import annotations

import hashlib
import re

from contract.function import Function, FunctionRef
from contract.job import IdempotencyClaim
from contract.origin import Origin
from contract.trigger import Trigger
from gateway.answer import JSON
from gateway.bodies import Payload, read_payload
from gateway.calls import Call
from gateway.triggers.event import Event
from gateway.triggers.mapping import map_event

# W3C Trace Context; what is not one is left out, and the trace begins here
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def call_of(trigger: Trigger, event: Event, max_bytes: int) -> Call:
    """The call that a trigger makes for an event; what it carries is read when it is submitted."""

    def read(function: Function) -> Payload:
        content_type, body = input_of(trigger, event, max_bytes)
        return read_payload(function.manifest, content_type, body, max_bytes)

    return Call(
        FunctionRef.parse(trigger.function),
        read,
        trigger.priority,
        claim_of(trigger.name, event).text,
        # nobody waits for its answer
        origin=Origin(*_trace(event), cause=f"trigger:{trigger.name}", is_kept=True),
    )


def input_of(trigger: Trigger, event: Event, max_bytes: int) -> tuple[str, bytes]:
    """Content type and body that the function gets: the event's data, or what is made of it.

    Raises InvalidInput, PayloadTooLarge.
    """
    if not trigger.input:
        return event.data()
    return JSON, map_event(trigger.input, event, max_bytes)


def claim_of(name: str, event: Event) -> IdempotencyClaim:
    """What stands for an event at a trigger: to CloudEvents, source and id are the event."""
    digest = hashlib.sha256("\0".join(("trigger", name, event.source, event.id)).encode())
    return IdempotencyClaim(digest.hexdigest(), digest.hexdigest())


def _trace(event: Event) -> tuple[str, str]:
    """Trace context of CloudEvents' extension for distributed tracing."""
    parent, state = event.more.get("traceparent"), event.more.get("tracestate", "")
    if not isinstance(parent, str) or not _TRACEPARENT.fullmatch(parent):
        return "", ""
    return parent, state if isinstance(state, str) and len(state) <= 512 else ""
