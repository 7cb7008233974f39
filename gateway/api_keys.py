"""API keys over HTTP, for administrators: made, listed, revoked."""

from __future__ import annotations

from typing import Any

import orjson

from contract.access import KEY_ID, Wish, mint
from contract.errors import InvalidInput, MalformedBody, UnknownKey
from gateway.answer import Answer, json_answer
from gateway.context import Gateway

MAX_BODY_BYTES = 10_000
_KINDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "scopes": (list,),
    "rate": (str,),
    "expires_in_s": (int, float),
}


def create(gateway: Gateway, body: bytes) -> Answer:
    """POST /v1/keys: the only answer that holds the key itself."""
    key, token = mint(Wish(**_fields(body)))
    gateway.store.api_keys.add(key)
    record = key.shown(None) | {"key": token.text, "aws_secret_access_key": token.signing_secret}
    return json_answer(record, 201, [("Cache-Control", "no-store")])


def show_all(gateway: Gateway) -> Answer:
    """GET /v1/keys: what is known of every key but its secret."""
    return json_answer(
        {"keys": [key.shown(used_at_s) for key, used_at_s in gateway.store.api_keys.all()]}
    )


def revoke(gateway: Gateway, key_id: str) -> Answer:
    """DELETE /v1/keys/<id>: other gateway processes refuse it within about a second."""
    if not KEY_ID.fullmatch(key_id):
        raise UnknownKey()
    return json_answer(gateway.store.api_keys.revoke(key_id).shown(None))


def _fields(body: bytes) -> dict[str, Any]:
    """The fields that were sent, each of its type."""
    try:
        record = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"body: expected JSON, got an error: {error}") from error
    if not isinstance(record, dict) or not record.keys() <= _KINDS.keys():
        expected = f"an object of {', '.join(_KINDS)}"
        raise InvalidInput.of("body", expected, repr(record)[:100])
    for name, value in record.items():
        if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
            names = " or ".join(kind.__name__ for kind in _KINDS[name])
            raise InvalidInput.of(name, names, repr(value)[:100])
    return record
