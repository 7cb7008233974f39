"""API keys in the OpenAPI description: their own operations, and what all others need of them."""

from __future__ import annotations

from collections.abc import Sequence

from contract.access import KEY_ID
from gateway.access import is_open, scope_of
from gateway.answer import JSON
from gateway.door import Door, door_at
from gateway.openapi_parts import Record, operation, problems, ref, shown

SCHEMES: Record = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "fb_<id>_<secret>",
        "description": "An API key. Roles are scopes; `admin` implies the others, and an "
        "operation without a role takes any key.",
    }
}
_STORE = ("store_unavailable", "internal")
_ID_PARAMETER: Record = {
    "name": "key_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{KEY_ID.pattern}$"},
}


def keys() -> Record:
    """The operations on keys."""
    create = operation(
        "create_key",
        "keys",
        "Make a key; only this answer holds it",
        {
            "201": shown("The key.", "NewApiKey"),
            **problems("malformed_body", "payload_too_large", "invalid_input", *_STORE),
        },
        requestBody={"content": {JSON: ref("KeyWish")}},
    )
    listing = operation(
        "keys",
        "keys",
        "Every key, without its secret",
        {"200": shown("Oldest first.", "ApiKeys"), **problems(*_STORE)},
    )
    revoke = operation(
        "revoke_key",
        "keys",
        "Revoke a key; every gateway process refuses it within about a second",
        {"200": shown("What it was.", "ApiKey"), **problems("unknown_key", *_STORE)},
    )
    return {
        "/v1/keys": {"get": listing, "post": create},
        "/v1/keys/{key_id}": {"delete": revoke, "parameters": [_ID_PARAMETER]},
    }


def secured(paths: Record, doors: Sequence[Door] = ()) -> Record:
    """The same paths as a guarded platform answers them, by the rule that guards it."""
    return {
        path: {
            name: _secured(name, path, item, doors) if name != "parameters" else item
            for name, item in operations.items()
        }
        for path, operations in paths.items()
    }


def _secured(method: str, path: str, described: Record, doors: Sequence[Door]) -> Record:
    if is_open(path):
        return described | {"security": []}
    door = door_at(path, doors)
    scope = (door.scope if door else scope_of)(method.upper(), path)
    describe = door.problems if door else problems
    refusals = describe("unauthorized", "forbidden", "rate_limited", "store_unavailable")
    responses = refusals | described["responses"]
    if (busy := described["responses"].get("429")) is not None:
        both = f"{busy['description']} {refusals['429']['description']}"
        responses["429"] = busy | {"description": both}
    roles = [] if scope is None else [str(scope)]
    return described | {"security": [{"key": roles}], "responses": dict(sorted(responses.items()))}
