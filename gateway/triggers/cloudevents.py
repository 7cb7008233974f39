"""CloudEvents 1.0 over HTTP: binary, structured and batched mode, decoded.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md, and
`formats/json-format.md` beside it. Strict where the specification says MUST, and liberal where
clients in use are wrong: values that were sent without percent-encoding are taken as UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import orjson

from contract.errors import InvalidInput, MalformedBody, PayloadTooLarge, UnsupportedMediaType
from gateway.answer import JSON
from gateway.triggers.event import Event

MAX_EVENTS = 1_000
MAX_ATTRIBUTES = 64
MAX_VALUE_CHARS = 4_096
STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
_FAMILY = "application/cloudevents"
_HEADER = "HTTP_CE_"
_NAME = re.compile(r"[a-z0-9]{1,64}")
_REQUIRED = ("specversion", "id", "source", "type")
# of which the specification says more than that they are text
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
# control characters, and what is no character at all
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_MOST_INT = 2**31


def decode(environ: Mapping[str, Any], body: bytes) -> list[Event]:
    """The events of a request, as WSGI has its headers.

    Raises InvalidInput, MalformedBody, PayloadTooLarge, UnsupportedMediaType.
    """
    content_type: str = environ.get("CONTENT_TYPE", "")
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    if not media.startswith(_FAMILY):
        return [_binary(environ, content_type.strip(), body)]
    _check_format(media, parameters)
    record = _json(body)
    if media == STRUCTURED:
        return [structured(record, "")]
    if not isinstance(record, list):
        raise InvalidInput.of("body", "an array of events", _kind(record))
    if len(record) > MAX_EVENTS:
        raise PayloadTooLarge(f"body: expected at most {MAX_EVENTS} events, got {len(record)}")
    return [structured(each, f"[{i}].") for i, each in enumerate(record)]


def structured(record: object, where: str) -> Event:
    """An event of the JSON format; `where` stands before the names of its members in errors."""
    if not isinstance(record, dict):
        raise InvalidInput.of(where.rstrip(".") or "body", "an event, an object", _kind(record))
    attributes = dict(record)
    has_data, data = "data" in attributes, attributes.pop("data", None)
    coded = attributes.pop("data_base64", None)
    if has_data and coded is not None:
        raise InvalidInput.of(f"{where}data", "data or data_base64", "both")
    content_type = attributes.pop("datacontenttype", None)
    if content_type is not None and not isinstance(content_type, str):
        expected = "a media type"
        raise InvalidInput.of(f"{where}datacontenttype", expected, _kind(content_type))
    known = _attributes(attributes, where)
    if content_type is not None:
        content_type = _text(content_type, f"{where}datacontenttype")
    if coded is not None:
        return _event(known, content_type or "", body=_decoded(coded, where))
    if not has_data:
        return _event(known, content_type or "")
    # a text of a type that is not JSON is that text; any other value is JSON
    return _event(known, content_type or JSON, value=data)


def _binary(environ: Mapping[str, Any], content_type: str, body: bytes) -> Event:
    found = {
        name[len(_HEADER) :].lower(): unescape(value, name[len(_HEADER) :].lower())
        for name, value in environ.items()
        if name.startswith(_HEADER)
    }
    if not found:
        raise UnsupportedMediaType(
            f"Content-Type: expected {STRUCTURED} or {BATCHED}, or the headers ce-specversion, "
            f"ce-id, ce-source and ce-type of an event in binary mode, got {content_type[:200]!r}",
            accepted=[STRUCTURED, BATCHED],
        )
    if "datacontenttype" in found:
        raise InvalidInput.of("ce-datacontenttype", "the header Content-Type alone", "this one")
    known = _attributes(found, "ce-")
    return _event(known, content_type, body=body) if body else _event(known, content_type)


def unescape(value: str, name: str) -> str:
    """The text of a header: double quotes undone, then one round of percent-decoding.

    `value` has bytes as latin-1, as WSGI has them. Raises InvalidInput.
    """
    value = value.strip(" \t")
    if value.startswith('"'):
        quoted = _QUOTED.fullmatch(value)
        if quoted is None:
            raise InvalidInput.of(f"ce-{name}", "a quoted string that ends", repr(value[:100]))
        value = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
    raw = value.encode("latin-1", errors="replace")
    try:
        # bytes.decode refuses overlong forms such as C0 A0
        return _PERCENT.sub(lambda match: bytes([int(match[1], 16)]), raw).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput.of(f"ce-{name}", "UTF-8, percent-encoded", repr(value[:100])) from error


def _attributes(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Context attributes that are what the specification says; null is as if it were not there."""
    if len(found) > MAX_ATTRIBUTES:
        expected = f"at most {MAX_ATTRIBUTES} attributes"
        raise InvalidInput.of(where.rstrip(".-") or "body", expected, str(len(found)))
    known: dict[str, Any] = {}
    for name, value in found.items():
        if not _NAME.fullmatch(name):
            expected = "a name of lower-case letters and digits"
            raise InvalidInput.of(f"{where}{name[:64]}", expected, repr(name[:64]))
        if value is not None:
            known[name] = _value(value, where + name)
    for name in _REQUIRED:
        if not isinstance(known.get(name), str) or not known[name]:
            actual = "nothing" if known.get(name) in (None, "") else _kind(known[name])
            raise InvalidInput.of(where + name, "a text that is not empty", actual)
    if known.pop("specversion") != "1.0":
        raise InvalidInput.of(f"{where}specversion", "1.0", repr(found["specversion"])[:50])
    _check_optional(known, where)
    return known


def _check_optional(known: Mapping[str, Any], where: str) -> None:
    for name in ("subject", "time", "dataschema"):
        if name in known and (not isinstance(known[name], str) or not known[name]):
            raise InvalidInput.of(where + name, "a text that is not empty", repr(known[name])[:50])
    if "time" in known and not _TIME.fullmatch(known["time"]):
        expected = "a time such as 2026-01-02T03:04:05Z (RFC 3339)"
        raise InvalidInput.of(f"{where}time", expected, repr(known["time"][:50]))


def _value(value: object, name: str) -> str | int | bool:
    if isinstance(value, str):
        return _text(value, name)
    if isinstance(value, bool) or (isinstance(value, int) and -_MOST_INT <= value < _MOST_INT):
        return value
    raise InvalidInput.of(name, "a text, a flag or a whole number of 32 bits", _kind(value))


def _text(value: str, name: str) -> str:
    if len(value) > MAX_VALUE_CHARS:
        raise InvalidInput.of(name, f"at most {MAX_VALUE_CHARS} characters", str(len(value)))
    if _FORBIDDEN.search(value):
        raise InvalidInput.of(name, "no control characters", repr(value[:100]))
    return value


def _event(known: dict[str, Any], content_type: str, **data: Any) -> Event:
    identity, source, kind = (known.pop(name) for name in ("id", "source", "type"))
    return Event(identity, source, kind, content_type, more=known, **data)


def _decoded(coded: object, where: str) -> bytes:
    try:
        if not isinstance(coded, str):
            raise TypeError(_kind(coded))
        return base64.b64decode(coded, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidInput.of(f"{where}data_base64", "base64", str(error)[:100]) from error


def _check_format(media: str, parameters: str) -> None:
    if media not in (STRUCTURED, BATCHED):
        raise UnsupportedMediaType(
            f"Content-Type: expected {STRUCTURED} or {BATCHED}, got {media[:200]!r}",
            accepted=[STRUCTURED, BATCHED],
        )
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "charset" and value.strip('"').lower() not in ("utf-8", "us-ascii"):
            expected = "UTF-8, which JSON is written in"
            raise UnsupportedMediaType(f"Content-Type: expected {expected}, got {value[:50]!r}")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"body: not JSON ({error})") from error


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "true or false"}
    return "nothing" if value is None else kinds.get(type(value), f"a {type(value).__name__}")
