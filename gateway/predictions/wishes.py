"""What a request for a prediction asks for: of which version, with what, and who hears of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from werkzeug.http import parse_list_header

from contract.destinations import parse
from contract.errors import InvalidInput, MalformedBody, UnknownFunction
from contract.function import Function, FunctionRef
from gateway.answer import JSON
from gateway.bodies import Payload, read_payload

# of `Prefer: wait` without a time, and at most
WAIT_S = 60.0
FORMAT = "prediction"
COMPLETED = "completed"
EVENTS = ("start", "output", "logs", COMPLETED)
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")
_MEMBERS: Mapping[str, tuple[type, str]] = {
    "version": (str, "a version's id"),
    "input": (dict, "an object"),
    "webhook": (str, "a URL"),
    "webhook_completed": (str, "a URL"),
    "webhook_events_filter": (list, "a list of events"),
    "stream": (bool, "true or false"),
}


class Wish(NamedTuple):
    """A prediction that somebody wants."""

    version: str
    given: dict[str, Any]
    # who hears of its end, whichever it is
    told: tuple[str, ...]

    @classmethod
    def of(cls, body: bytes) -> Wish:
        """The wish in a body; raises MalformedBody and InvalidInput naming the member."""
        members = _members(body)
        events = members.get("webhook_events_filter")
        _check_events(events)
        told = [
            _destination(name, members[name])
            for name in ("webhook", "webhook_completed")
            if members.get(name)
        ]
        given = members.get("input", {})
        return cls(members.get("version", ""), given, tuple(dict.fromkeys(told)))

    def payload(self, function: Function, max_bytes: int) -> Payload:
        """The input as the function takes it: JSON for its preprocess, or tensors by name."""
        whole = self.given if function.manifest.has_preprocess else {"inputs": self.given}
        try:
            data = orjson.dumps(whole)
        except orjson.JSONEncodeError as error:
            raise InvalidInput.of("input", "an object that is not so deep", str(error)) from error
        return read_payload(function.manifest, JSON, data, max_bytes)


def _members(body: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"body: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise InvalidInput.of("body", "an object", repr(record)[:100])
    found = {name: value for name, value in record.items() if value is not None}
    for name, (kind, expected) in _MEMBERS.items():
        if name in found and not isinstance(found[name], kind):
            raise InvalidInput.of(name, expected, repr(found[name])[:100])
    return found


def _check_events(events: list[Any] | None) -> None:
    if events is None:
        return
    if not all(isinstance(event, str) and event in EVENTS for event in events):
        expected = f"a list of {', '.join(EVENTS)}"
        raise InvalidInput.of("webhook_events_filter", expected, repr(events)[:100])
    if COMPLETED not in events:
        # nothing else is ever sent
        raise InvalidInput.of(
            "webhook_events_filter", f"{COMPLETED} among the events", repr(events)[:100]
        )


def _destination(field: str, url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise InvalidInput.of(field, "an http or https URL", repr(url[:100]))
    return parse(f"{FORMAT}+{url}", field).text


def parse_version(text: str) -> FunctionRef:
    """The function of `NAME`, `NAME@VERSION`, `OWNER/NAME` or `OWNER/NAME:VERSION`."""
    owner, slash, rest = text.rpartition("/")
    if slash:
        name, _, wanted = rest.partition(":")
        return parse_model(owner, name, wanted)
    if not text:
        raise InvalidInput.of("version", "the id of a version, such as NAME@3", "nothing")
    return FunctionRef.parse(text)


def parse_model(owner: str, name: str, wanted: str = "") -> FunctionRef:
    """The function that a model and a version of it mean; whose a model is matters to nobody."""
    if not _OWNER.fullmatch(owner):
        expected = "letters, digits, `.`, `_` and `-`"
        raise UnknownFunction(f"owner: expected {expected}, got {owner[:100]!r}")
    named, _, number = wanted.rpartition("@")
    if named and named != name:
        raise UnknownFunction(f"version: expected one of {name}, got {wanted[:100]!r}")
    return FunctionRef.parse(f"{name}@{number}" if number else name)


def parse_wait(header: str, max_wait_s: float) -> float | None:
    """How long `Prefer: wait` or `wait=S` waits, in seconds; None where nobody asks for it."""
    for item in parse_list_header(header):
        name, equals, value = item.partition(";")[0].partition("=")
        if name.strip().lower() != "wait":
            continue
        seconds = value.strip().strip('"')
        if equals and not _SECONDS.fullmatch(seconds):
            raise InvalidInput.of("Prefer", "wait=S, S in seconds", repr(item[:100]))
        return min(float(seconds) if equals else WAIT_S, WAIT_S, max_wait_s)
    return None
