"""What a client asks for, checked: from JSON to a trigger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from contract.errors import InvalidInput, MalformedBody, UnknownFunction
from contract.function import NAME, FunctionRef
from contract.job import MAX_PRIORITY
from contract.trigger import Kind, Trigger, new_generation
from gateway.triggers.cron import MISSED, check_schedule
from gateway.triggers.filters import DIALECTS, MAX_FILTERS, MAX_TEXT_CHARS
from gateway.triggers.mapping import check_expression
from gateway.triggers.places import check_place

MAX_BODY_BYTES = 100_000
MAX_DATA_BYTES = 65_536
MAX_KEY_CHARS = 255
MAX_BATCH = 1_000
MAX_PATTERN_CHARS = 100
BAD_INPUT = ("stop", "skip")
FIRST = ("new", "start")
EXISTING = ("skip", "all")
# of the platform's own keys, and of the queues of its workers
_OURS = ("fb:", "fusebox.", "_kombu", "unacked")

Record = dict[str, Any]


def read_definition(body: bytes, watched: Sequence[str]) -> Trigger:
    """The trigger that a body asks for; `watched` may be watched. Raises InvalidInput."""
    try:
        record = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"body: expected JSON, got an error: {error}") from error
    if not isinstance(record, dict):
        raise InvalidInput.of("body", "an object", repr(record)[:100])
    kinds = [kind for kind in Kind if kind in record]
    if len(kinds) != 1:
        actual = " and ".join(kinds) or "none of them"
        raise InvalidInput.of("body", f"one member of {', '.join(Kind)}", actual)
    kind = kinds[0]
    known = {"name", "function", "input", "priority", "on_bad_input", str(kind)}
    _check_members("body", record, known)
    now_s = time.time()
    expression = _text(record, "input", "", 1_000_000)
    if expression:
        check_expression(expression)
    return Trigger(
        _name(record),
        new_generation(),
        kind,
        _function(record),
        _OPTIONS[kind](_object(record, str(kind)), now_s, watched),
        expression,
        _whole(record, "priority", 0, 0, MAX_PRIORITY),
        _choice(record, "on_bad_input", BAD_INPUT) == "skip",
        now_s,
    )


def _cron(record: Record, now_s: float, _watched: Sequence[str]) -> Record:
    _check_members("cron", record, {"schedule", "timezone", "missed", "data"})
    schedule = _text(record, "cron.schedule", None, 1_000)
    zone = _text(record, "cron.timezone", "UTC", 1_000)
    check_schedule(schedule, zone, now_s)
    data = record.get("data", {})
    _check_data(data)
    missed = _choice(record, "cron.missed", MISSED)
    return {"schedule": schedule, "timezone": zone, "missed": missed, "data": data}


def _stream(record: Record, _now_s: float, _watched: Sequence[str]) -> Record:
    _check_members("stream", record, {"key", "from", "batch"})
    key = _text(record, "stream.key", None, MAX_KEY_CHARS)
    if not key or not key.isprintable() or key.startswith(_OURS):
        expected = "a printable key that is none of the platform's own"
        raise InvalidInput.of("stream.key", expected, repr(key))
    return {
        "key": key,
        "from": _choice(record, "stream.from", FIRST),
        "batch": _whole(record, "stream.batch", 100, 1, MAX_BATCH),
    }


def _event(record: Record, _now_s: float, _watched: Sequence[str]) -> Record:
    _check_members("event", record, {"filters"})
    filters = record.get("filters", [])
    if not isinstance(filters, list) or len(filters) > MAX_FILTERS:
        expected = f"an array of at most {MAX_FILTERS} filters"
        raise InvalidInput.of("event.filters", expected, repr(filters)[:100])
    for i, each in enumerate(filters):
        _check_filter(f"event.filters[{i}]", each)
    return {"filters": filters}


def _watch(record: Record, _now_s: float, watched: Sequence[str]) -> Record:
    _check_members("watch", record, {"url", "pattern", "every_s", "settle_s", "existing"})
    pattern = _text(record, "watch.pattern", "*", MAX_PATTERN_CHARS)
    if not pattern or "/" in pattern:
        raise InvalidInput.of("watch.pattern", "a pattern of file names", repr(pattern))
    return {
        "url": check_place(_text(record, "watch.url", None, 1_000), watched),
        "pattern": pattern,
        "every_s": _number(record, "watch.every_s", 2.0, 0.1, 86_400),
        "settle_s": _number(record, "watch.settle_s", 1.0, 0.0, 3_600),
        "existing": _choice(record, "watch.existing", EXISTING),
    }


_OPTIONS: Mapping[Kind, Callable[[Record, float, Sequence[str]], Record]] = {
    Kind.CRON: _cron,
    Kind.STREAM: _stream,
    Kind.EVENT: _event,
    Kind.WATCH: _watch,
}


def _check_data(data: object) -> None:
    try:
        size = len(orjson.dumps(data))
    except orjson.JSONEncodeError as error:
        raise InvalidInput.of("cron.data", "a value that nests less deep", str(error)) from error
    if size > MAX_DATA_BYTES:
        raise InvalidInput.of("cron.data", f"at most {MAX_DATA_BYTES} bytes", str(size))


def _check_filter(field: str, each: object) -> None:
    expected = f"an object of {', '.join(DIALECTS)}, each an object of attributes and texts"
    if not isinstance(each, dict) or not each or not each.keys() <= set(DIALECTS):
        raise InvalidInput.of(field, expected, repr(each)[:100])
    for conditions in each.values():
        if not isinstance(conditions, dict) or not 0 < len(conditions) <= MAX_FILTERS:
            raise InvalidInput.of(field, expected, repr(conditions)[:100])
        for name, text in conditions.items():
            is_text = isinstance(text, str) and 0 < len(text) <= MAX_TEXT_CHARS
            if not (is_text and name.isascii() and name.isalnum() and name == name.lower()):
                raise InvalidInput.of(f"{field}.{name[:64]}", expected, repr(text)[:100])


def _name(record: Record) -> str:
    name = _text(record, "name", None, 1_000)
    if not NAME.fullmatch(name):
        expected = "lower-case letters, digits and inner hyphens, at most 63 characters"
        raise InvalidInput.of("name", expected, repr(name[:100]))
    return name


def _function(record: Record) -> str:
    text = _text(record, "function", None, 1_000)
    try:
        return str(FunctionRef.parse(text))
    except UnknownFunction as error:
        raise InvalidInput.of("function", "NAME or NAME@VERSION", repr(text[:100])) from error


def _check_members(where: str, record: Record, known: set[str]) -> None:
    if unknown := sorted(record.keys() - known):
        raise InvalidInput.of(
            where, f"members of {', '.join(sorted(known))}", repr(unknown[0])[:100]
        )


def _object(record: Record, name: str) -> Record:
    value = record[name]
    if not isinstance(value, dict):
        raise InvalidInput.of(name, "an object", repr(value)[:100])
    return value


def _text(record: Record, field: str, default: str | None, most_chars: int) -> str:
    value = record.get(field.rpartition(".")[2], default)
    if not isinstance(value, str) or len(value) > most_chars:
        expected = f"a text of at most {most_chars} characters"
        raise InvalidInput.of(field, expected, "nothing" if value is None else repr(value)[:100])
    return value


def _choice(record: Record, field: str, choices: Sequence[str]) -> str:
    """One of some words; the first is the default."""
    value = record.get(field.rpartition(".")[2], choices[0])
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput.of(field, f"one of {', '.join(choices)}", repr(value)[:100])
    return value


def _number(record: Record, field: str, default: float, low: float, high: float) -> float:
    value = record.get(field.rpartition(".")[2], default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise InvalidInput.of(field, f"a number from {low:g} to {high:g}", repr(value)[:100])
    return float(value)


def _whole(record: Record, field: str, default: int, low: int, high: int) -> int:
    value = record.get(field.rpartition(".")[2], default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        expected = f"a whole number from {low} to {high}"
        raise InvalidInput.of(field, expected, repr(value)[:100])
    return value
