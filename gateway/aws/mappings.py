"""Event source mappings, which are stream triggers: entries of a Redis stream become calls.

A mapping's UUID is its trigger's name, and its event source a stream whose name is a key of the
store. Every entry is a call of its own; the batch size says how many may be under way.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from contract.errors import InvalidInput, UnknownTrigger
from contract.function import NAME, FunctionRef
from contract.store.triggers import Known
from contract.trigger import Kind, Progress, Trigger
from gateway.answer import Answer, json_answer
from gateway.aws.bodies import read_members
from gateway.aws.configurations import Entry, paged
from gateway.aws.errors import AwsError, invalid
from gateway.aws.names import arn_of, parse_name
from gateway.context import Gateway
from gateway.triggers.definition import MAX_BATCH, read_definition

ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/"
MAX_ARN_CHARS = 1024
DEFAULT_BATCH = 100
_STREAM = re.compile(r"arn:aws[a-zA-Z-]*:kinesis:[a-z0-9-]*:[0-9]*:stream/(.+)", re.DOTALL)
_FIRST = {"TRIM_HORIZON": "start", "LATEST": "new"}
_AT_ONCE = 200
_CREATE = {
    "EventSourceArn": str,
    "FunctionName": str,
    "Enabled": bool,
    "BatchSize": int,
    "StartingPosition": str,
}
_UPDATE = {"UUID": str, "FunctionName": str, "Enabled": bool, "BatchSize": int}


def create(gateway: Gateway, body: bytes) -> Answer:
    """POST .../event-source-mappings: reads the stream from now on."""
    members = read_members(body, _CREATE)
    position = members.get("StartingPosition", "")
    if position not in _FIRST:
        raise invalid("StartingPosition", " or ".join(_FIRST), repr(position)[:100])
    batch = members.get("BatchSize", DEFAULT_BATCH)
    if not 1 <= batch <= MAX_BATCH:
        raise invalid("BatchSize", f"a whole number from 1 to {MAX_BATCH}", repr(batch)[:100])
    ref = parse_name(str(members.get("FunctionName", "")))
    # what cannot be called now is a mistake, though it may be removed later
    gateway.lookup.get(ref)
    stream = {
        "key": _key(str(members.get("EventSourceArn", ""))),
        "from": _FIRST[position],
        "batch": batch,
    }
    trigger = _defined({"name": str(uuid.uuid4()), "function": str(ref), "stream": stream})
    trigger = replace(trigger, is_paused=not members.get("Enabled", True))
    gateway.store.triggers.put(trigger)
    return json_answer(_record(Known(trigger, Progress())), 202)


def show_all(gateway: Gateway, query: Mapping[str, str]) -> Answer:
    """GET .../event-source-mappings, of one stream or one function where that is asked for."""
    return paged("EventSourceMappings", _entries(gateway, query), query)


def show(gateway: Gateway, name: str) -> Answer:
    """GET .../event-source-mappings/<uuid>."""
    return json_answer(_record(_found(gateway, name)))


def update(gateway: Gateway, name: str, body: bytes) -> Answer:
    """PUT .../event-source-mappings/<uuid>: pauses it, or lets it go on; nothing else changes."""
    members, known = read_members(body, _UPDATE), _found(gateway, name)
    trigger = known.trigger
    if "FunctionName" in members and str(parse_name(members["FunctionName"])) != trigger.function:
        raise _fixed("FunctionName", trigger.function)
    if members.get("BatchSize", trigger.options["batch"]) != trigger.options["batch"]:
        raise _fixed("BatchSize", str(trigger.options["batch"]))
    if "Enabled" in members:
        gateway.store.triggers.pause(trigger, not members["Enabled"], time.time())
    return json_answer(_record(_found(gateway, name)), 202)


def remove(gateway: Gateway, name: str) -> Answer:
    """DELETE .../event-source-mappings/<uuid>: its place in the stream goes with it."""
    known = _found(gateway, name)
    gateway.store.triggers.remove(known.trigger)
    return json_answer(_record(known) | {"State": "Deleting"}, 202)


def _entries(gateway: Gateway, query: Mapping[str, str]) -> Iterator[Entry]:
    wanted = query.get("FunctionName", "")
    function = str(parse_name(wanted)) if wanted else ""
    source = query.get("EventSourceArn", "")
    key = _key(source) if source else ""
    after: str | None = query.get("Marker", "").rpartition(":")[0]
    while after is not None:
        found, last = gateway.store.triggers.page(after, _AT_ONCE)
        after = last or None
        for known in found:
            trigger = known.trigger
            if (
                trigger.kind is Kind.STREAM
                and function in ("", trigger.function)
                and key in ("", trigger.options["key"])
            ):
                yield (trigger.name, 0), _record(known)


def _found(gateway: Gateway, name: str) -> Known:
    if not NAME.fullmatch(name):
        raise UnknownTrigger(trigger=name[:100])
    known = gateway.store.triggers.get(name)
    if known.trigger.kind is not Kind.STREAM:
        raise UnknownTrigger(trigger=name)
    return known


def _key(arn: str) -> str:
    match = _STREAM.fullmatch(arn) if len(arn) <= MAX_ARN_CHARS else None
    if match is None:
        raise invalid("EventSourceArn", f"{ARN}KEY, a stream of the store", repr(arn[:100]))
    return match[1]


def _defined(record: dict[str, Any]) -> Trigger:
    try:
        return read_definition(orjson.dumps(record), ())
    except InvalidInput as error:
        raise AwsError("InvalidParameterValueException", 400, error.detail) from error


def _fixed(member: str, now: str) -> AwsError:
    expected = f"{now}, which does not change; remove the mapping and make another"
    return invalid(member, expected, "something else")


def _record(known: Known) -> dict[str, Any]:
    trigger, progress = known
    ref = FunctionRef.parse(trigger.function)
    first = {here: there for there, here in _FIRST.items()}
    record = {
        "UUID": trigger.name,
        "EventSourceArn": ARN + trigger.options["key"],
        "FunctionArn": arn_of(ref.name, str(ref).partition("@")[2]),
        "BatchSize": trigger.options["batch"],
        "StartingPosition": first[trigger.options["from"]],
        "LastModified": trigger.created_at_s,
        "State": "Disabled" if trigger.is_paused else "Enabled",
        "LastProcessingResult": "OK" if progress.fired else "No records processed",
    }
    if progress.error:
        record["LastProcessingResult"] = "PROBLEM"
        record["StateTransitionReason"] = orjson.loads(progress.error)["detail"]
    return record
