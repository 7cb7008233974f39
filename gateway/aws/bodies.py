"""JSON bodies of the Lambda API's operations: members by name, each of its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from contract.errors import MalformedBody
from gateway.aws.errors import invalid

# of everything but payloads
MAX_BYTES = 64 * 1024


def read_members(body: bytes, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """The members that were sent and are not null; raises MalformedBody and AwsError."""
    try:
        record = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"Could not parse request body into json: {error}") from error
    if not isinstance(record, dict):
        raise MalformedBody(f"body: expected an object, got {type(record).__name__}")
    found = {name: value for name, value in record.items() if value is not None}
    for name, value in found.items():
        if name not in kinds:
            raise invalid(name[:100], f"no member but {', '.join(kinds)}", "one")
        if not isinstance(value, kinds[name]) or isinstance(value, bool) != (kinds[name] is bool):
            raise invalid(name, _named(kinds[name]), repr(value)[:100])
    return found


def _named(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(one.__name__ for one in kinds)
