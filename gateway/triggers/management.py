"""Triggers over HTTP: made, listed, shown, removed, paused, resumed, tried out."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

import orjson

from contract.errors import InvalidInput, UnknownTrigger
from contract.function import NAME, FunctionRef
from contract.store.triggers import Known
from contract.trigger import Kind, Progress, Trigger
from gateway.answer import JSON, Answer, json_answer, rfc3339
from gateway.bodies import read_payload
from gateway.context import Gateway
from gateway.triggers.cloudevents import decode
from gateway.triggers.cron import Schedule
from gateway.triggers.crons import tick_event
from gateway.triggers.definition import read_definition
from gateway.triggers.event import Event
from gateway.triggers.filters import matches
from gateway.triggers.firing import input_of

# of one page
MAX_COUNT = 1_000
# of an event that is tried out
MAX_EVENT_BYTES = 2**20


def create(gateway: Gateway, body: bytes) -> Answer:
    """POST /v1/triggers: it works from now on."""
    trigger = read_definition(body, gateway.settings.watched)
    # what cannot be called now is a mistake, though it may be removed later
    gateway.lookup.get(FunctionRef.parse(trigger.function))
    gateway.store.triggers.put(trigger)
    location = ("Location", f"/v1/triggers/{trigger.name}")
    return json_answer(_with_next(Known(trigger, Progress())), 201, [location])


def show_all(gateway: Gateway, after: str, count: int) -> Answer:
    """GET /v1/triggers: a page of them, by name."""
    found, last = gateway.store.triggers.page(after, count)
    return json_answer({"triggers": [shown(known) for known in found], "next": last or None})


def show(gateway: Gateway, name: str) -> Answer:
    """GET /v1/triggers/<name>."""
    return json_answer(_with_next(_get(gateway, name)))


def remove(gateway: Gateway, name: str) -> Answer:
    """DELETE /v1/triggers/<name>: its place goes with it; jobs that it made run on."""
    known = _get(gateway, name)
    gateway.store.triggers.remove(known.trigger)
    return json_answer(shown(known))


def pause(gateway: Gateway, name: str, is_paused: bool) -> Answer:
    """POST /v1/triggers/<name>/pause and /resume; one that is resumed tries at once."""
    known = _get(gateway, name)
    gateway.store.triggers.pause(known.trigger, is_paused, time.time())
    return json_answer(_with_next(_get(gateway, name)))


def try_out(gateway: Gateway, name: str, environ: Mapping[str, Any], body: bytes) -> Answer:
    """POST /v1/triggers/<name>/test: the input that an event would become; runs nothing.

    Raises what the event would fail with.
    """
    trigger = _get(gateway, name).trigger
    event = _event(trigger, environ, body)
    max_bytes = gateway.settings.max_body_bytes
    content_type, data = input_of(trigger, event, max_bytes)
    function = gateway.lookup.get(FunctionRef.parse(trigger.function))
    payload = read_payload(function.manifest, content_type, data, max_bytes)
    is_match = trigger.kind is not Kind.EVENT or matches(trigger.options["filters"], event)
    record = {
        "trigger": trigger.name,
        "function": function.name,
        "version": function.version,
        "is_match": is_match,
        "rows": payload.rows,
        "content_type": content_type,
    }
    is_json = content_type.partition(";")[0].strip().lower() == JSON
    value = {"payload": orjson.loads(data)} if is_json else {"payload_base64": _coded(data)}
    return json_answer(record | value)


def shown(known: Known) -> dict[str, Any]:
    """A trigger as it is shown: what it was asked to be, and how it fares."""
    trigger, progress = known
    return {
        "name": trigger.name,
        "kind": str(trigger.kind),
        "function": trigger.function,
        "input": trigger.input,
        "priority": trigger.priority,
        "on_bad_input": "skip" if trigger.skips_bad else "stop",
        str(trigger.kind): dict(trigger.options),
        "created_at": rfc3339(trigger.created_at_s),
        "state": _state(known),
        "fired": progress.fired,
        "skipped": progress.skipped,
        "last_at": _moment(progress.last_at_s),
        "last_job": progress.last_job or None,
        "error": orjson.loads(progress.error) if progress.error else None,
        "retry_at": _moment(progress.retry_at_s),
    }


def _state(known: Known) -> str:
    if known.trigger.is_paused:
        return "paused"
    return "failing" if known.progress.error else "active"


def _with_next(known: Known) -> dict[str, Any]:
    """Shown, with the next tick of a cron trigger that is not paused."""
    trigger = known.trigger
    next_at: str | None = None
    if trigger.kind is Kind.CRON and not trigger.is_paused:
        schedule = Schedule(trigger.options["schedule"], trigger.options["timezone"])
        next_at = rfc3339(schedule.after(time.time()))
    return shown(known) | {"next_at": next_at}


def _event(trigger: Trigger, environ: Mapping[str, Any], body: bytes) -> Event:
    """The event that is tried out: a CloudEvent; for a cron trigger, without one, its next tick."""
    if trigger.kind is Kind.CRON and not body and "HTTP_CE_ID" not in environ:
        schedule = Schedule(trigger.options["schedule"], trigger.options["timezone"])
        return tick_event(trigger, schedule.after(time.time()))
    events = decode(environ, body)
    if len(events) != 1:
        raise InvalidInput.of("body", "one event", str(len(events)))
    return events[0]


def _get(gateway: Gateway, name: str) -> Known:
    if not NAME.fullmatch(name):
        raise UnknownTrigger(trigger=name[:100])
    return gateway.store.triggers.get(name)


def _moment(at_s: float) -> str | None:
    return rfc3339(at_s) if at_s else None


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode()
