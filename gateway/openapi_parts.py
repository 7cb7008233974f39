"""What operations of the OpenAPI description are made of."""

from __future__ import annotations

from typing import Any

from contract.errors import BY_CODE
from gateway.answer import JSON
from gateway.problems import PROBLEM

Record = dict[str, Any]

ANY: Record = {"schema": {}}


def query(name: str, about: str, **schema: Any) -> Record:
    """A parameter of the query string."""
    return {"name": name, "in": "query", "description": about, "schema": schema}


def header(name: str, about: str, **more: Any) -> Record:
    """A header of requests."""
    return {
        "name": name,
        "in": "header",
        "description": about,
        "schema": {"type": "string"},
        **more,
    }


def ref(name: str) -> Record:
    """Content of a schema that has a name."""
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


def shown(about: str, schema: str | None, **more: Any) -> Record:
    """A response in JSON."""
    return {"description": about, "content": {JSON: ref(schema) if schema else ANY}, **more}


def problems(*codes: str) -> Record:
    """Responses for these codes of the error tree, by status."""
    by_status: dict[str, list[str]] = {}
    for code in codes:
        by_status.setdefault(str(BY_CODE[code].http_status), []).append(code)
    found: Record = {}
    for status, names in sorted(by_status.items()):
        about = " ".join(f"`{name}`: {BY_CODE[name].__doc__}" for name in names)
        found[status] = {"description": about, "content": {PROBLEM: ref("Problem")}}
        if status in ("429", "503"):
            seconds = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            found[status]["headers"] = {"Retry-After": seconds}
    return found


def operation(identity: str, tag: str, summary: str, responses: Record, **more: Any) -> Record:
    """What one method of one path does."""
    return {
        "operationId": identity,
        "tags": [tag],
        "summary": summary,
        "responses": responses,
        **more,
    }
