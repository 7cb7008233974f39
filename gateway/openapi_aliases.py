"""Aliases in the OpenAPI description."""

from __future__ import annotations

from contract.aliases import ALIAS_NAME, MAX_VERSIONS, MAX_WEIGHT
from contract.function import NAME
from gateway.answer import JSON
from gateway.openapi_json import COUNT, STRING, Schema, list_of, object_of
from gateway.openapi_parts import Record, header, operation, problems, ref, shown
from gateway.preferences import MAX_STICKY_CHARS

_STORE = ("store_unavailable", "internal")
STICKY: Record = header(
    "Fusebox-Sticky",
    "Of an alias with several versions, calls with the same key go to the same one.",
    schema={"type": "string", "maxLength": MAX_STICKY_CHARS},
)
_PARAMETERS = [
    {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "The function's name alone.",
        "schema": {"type": "string", "pattern": f"^{NAME.pattern}$"},
    },
    {
        "name": "alias",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{ALIAS_NAME.pattern}$"},
    },
]


def aliases() -> Record:
    """The operations on aliases."""
    named = ("unknown_function", "unknown_alias", "invalid_input", *_STORE)
    listing = operation(
        "aliases",
        "functions",
        "Every alias of a function",
        {"200": shown("By name.", "Aliases"), **problems("unknown_function", *_STORE)},
    )
    show = operation(
        "alias",
        "functions",
        "What an alias points at",
        {"200": shown("The alias.", "Alias"), **problems(*named)},
    )
    put = operation(
        "put_alias",
        "functions",
        "Make an alias, or move it",
        {
            "200": shown("As it is now.", "Alias"),
            **problems("malformed_body", "payload_too_large", "request_timeout", *named),
        },
        requestBody={"required": True, "content": {JSON: ref("AliasWish")}},
    )
    remove = operation(
        "remove_alias",
        "functions",
        "Remove an alias; its versions stay",
        {"200": shown("What it was.", "Alias"), **problems(*named)},
    )
    back = operation(
        "roll_back_alias",
        "functions",
        "Move an alias back to what it pointed at before",
        {"200": shown("As it is now.", "Alias"), **problems(*named)},
    )
    base = "/v1/functions/{name}/aliases"
    item = {"parameters": _PARAMETERS}
    return {
        base: {"get": listing, "parameters": _PARAMETERS[:1]},
        f"{base}/{{alias}}": {"get": show, "put": put, "delete": remove, **item},
        f"{base}/{{alias}}/rollback": {"post": back, **item},
    }


def alias_schemas() -> Schema:
    """The schemas of aliases, by name."""
    pattern = {"pattern": "^[1-9][0-9]{0,8}$"}
    weights: Schema = {
        "type": "object",
        "description": "Weights by version.",
        "propertyNames": pattern,
        "additionalProperties": {"type": "integer", "minimum": 1, "maximum": MAX_WEIGHT},
        "minProperties": 1,
        "maxProperties": MAX_VERSIONS,
    }
    alias = {"function": STRING, "alias": STRING, "versions": weights, "before": list_of(weights)}
    return {
        "Alias": object_of(alias),
        "Aliases": object_of({"aliases": list_of({"$ref": "#/components/schemas/Alias"})}),
        "AliasWish": object_of({"versions": weights}) | {"additionalProperties": False},
    }


# shown with functions: by alias, weights by version
OF_A_FUNCTION: Schema = {
    "type": "object",
    "description": "Weights by version, by alias.",
    "additionalProperties": {"type": "object", "additionalProperties": COUNT},
}
