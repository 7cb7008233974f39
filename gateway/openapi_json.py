"""The small schemas that those of answers are made of (JSON Schema 2020-12)."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
OPTIONAL: Schema = {"type": ["number", "null"]}
MAP_OF_COUNTS: Schema = {"type": "object", "additionalProperties": {"type": "integer"}}


def object_of(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    """An object with these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def list_of(items: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": items}


def map_of(values: Schema) -> Schema:
    """An object with any names."""
    return {"type": "object", "additionalProperties": values}
