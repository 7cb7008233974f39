"""The V2 door in the OpenAPI description."""

from __future__ import annotations

from typing import Any

from contract.errors import BY_CODE
from contract.function import NAME
from gateway.answer import JSON
from gateway.openapi_json import COUNT, FLAG, STRING, Schema, list_of, map_of, object_of
from gateway.openapi_parts import Record, header, operation
from gateway.v2.datatypes import DATATYPES
from gateway.v2.request import JSON_LENGTH, MAX_ID_CHARS, MAX_TENSORS

_TAG = "v2"
_STORE = ("store_unavailable", "internal")
_MODEL: Record = {
    "name": "model",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{NAME.pattern}$"},
}
_VERSION: Record = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
}
_PARAMETERS: Schema = {"type": "object", "description": "Strings, numbers and flags."}
_SHAPE = list_of({"type": "integer"})
_DATATYPE: Schema = {"type": "string", "enum": list(DATATYPES)}
_DATA: Schema = {"type": "array", "description": "Flat or nested, row-major."}
_METADATA = list_of(object_of({"name": STRING, "datatype": STRING, "shape": _SHAPE}))
_ERROR = object_of({"error": STRING})
_TIMES = object_of({"count": COUNT, "ns": COUNT})


def errors(*codes: str) -> Record:
    """Responses for these codes of the error tree, by status, as this door has them."""
    by_status: dict[str, list[str]] = {}
    for code in codes:
        known = BY_CODE[code].http_status
        # what is wrong with a request's content is 400 here
        by_status.setdefault(str(400 if known in (406, 422) else known), []).append(code)
    found: Record = {}
    for status, names in sorted(by_status.items()):
        about = " ".join(str(BY_CODE[name].__doc__) for name in names)
        found[status] = {"description": about, "content": {JSON: {"schema": _ERROR}}}
    return found


def _json(about: str, schema: Schema) -> Record:
    return {"description": about, "content": {JSON: {"schema": schema}}}


def _request() -> Schema:
    tensor = {
        "name": STRING,
        "shape": list_of(COUNT),
        "datatype": _DATATYPE,
        "parameters": _PARAMETERS,
        "data": _DATA,
    }
    output = object_of({"name": STRING, "parameters": _PARAMETERS}, optional=("parameters",))
    return object_of(
        {
            "id": STRING | {"maxLength": MAX_ID_CHARS},
            "parameters": _PARAMETERS,
            "inputs": list_of(object_of(tensor, optional=("parameters", "data")))
            | {"maxItems": MAX_TENSORS},
            "outputs": list_of(output) | {"maxItems": MAX_TENSORS},
        },
        optional=("id", "parameters", "outputs"),
    )


def _response() -> Schema:
    output = {
        "name": STRING,
        "datatype": _DATATYPE,
        "shape": _SHAPE,
        "parameters": _PARAMETERS,
        "data": _DATA,
    }
    return object_of(
        {
            "model_name": STRING,
            "model_version": STRING,
            "id": STRING,
            "outputs": list_of(object_of(output, optional=("parameters", "data"))),
        },
        optional=("id",),
    )


def _infer(identity: str) -> Record:
    binary = {"schema": {"type": "string", "format": "binary"}}
    codes = (
        "bad_request", "malformed_body", "invalid_input", "unknown_function", "request_timeout",
        "payload_too_large", "unsupported_media_type", "queue_full", "wait_too_long",
        "function_failed", "handler_failed", "handler_timeout", "worker_lost", "out_of_memory",
        "deadline_exceeded", "deadline_unmeetable", "job_cancelled", "unavailable", *_STORE,
    )  # fmt: skip
    return operation(
        identity,
        _TAG,
        "Run a model",
        {
            "200": {
                "description": "Outputs; the bytes of binary ones behind the JSON.",
                "content": {JSON: {"schema": _response()}, "application/octet-stream": binary},
            },
            **errors(*codes),
        },
        parameters=[
            header(
                JSON_LENGTH,
                "Bytes of JSON in front of binary tensors; 0 for the bytes of the one input alone.",
                schema=COUNT,
            ),
            header(
                "Content-Encoding",
                "How the whole body is compressed.",
                schema={"type": "string", "enum": ["gzip", "deflate", "identity"]},
            ),
        ],
        requestBody={
            "required": True,
            "content": {JSON: {"schema": _request()}, "application/octet-stream": binary},
        },
    )


def _get(identity: str, summary: str, schema: Schema, *codes: str, **more: Record) -> Record:
    answers = {"200": _json(summary + ".", schema), **more, **errors(*codes)}
    return operation(identity, _TAG, summary, answers)


def _unsupported(identity: str, what: str) -> Record:
    return {
        method: operation(
            f"{identity}_{method}", _TAG, f"{what}: not supported", errors("bad_request")
        )
        for method in ("get", "post")
    }


def _model(prefix: str, at: str, parameters: list[Record]) -> Record:
    """The operations on a model, or on one version of it."""
    shown = ("unknown_function", *_STORE)
    metadata = object_of(
        {
            "name": STRING,
            "versions": list_of(STRING),
            "platform": STRING,
            "inputs": _METADATA,
            "outputs": _METADATA,
        }
    )
    ready = object_of({"name": STRING, "ready": FLAG})
    not_ready: Any = _json("There is no worker, or the job store does not answer.", {})
    ready_operation = _get(f"{prefix}_ready", "Whether it can be called", ready, *shown)
    ready_operation["responses"]["503"] = not_ready
    config = {"type": "object", "description": "As much of Triton's as clients look at."}
    operations = {
        "": {"get": _get(prefix, "Its tensors", metadata, *shown)},
        "/config": {"get": _get(f"{prefix}_config", "Its configuration", config, *shown)},
        "/ready": {"get": ready_operation},
        "/stats": {"get": _get(f"{prefix}_stats", "Its counters", _stats(), *shown)},
        "/infer": {"post": _infer(f"{prefix}_infer")},
    }
    return {f"{at}{path}": item | {"parameters": parameters} for path, item in operations.items()}


def _stats() -> Schema:
    usage = object_of({"type": STRING, "id": COUNT, "byte_size": COUNT})
    model = {
        "name": STRING,
        "version": STRING,
        "last_inference": COUNT,
        "inference_count": COUNT,
        "execution_count": COUNT,
        "inference_stats": map_of(_TIMES),
        "response_stats": {"type": "object"},
        "batch_stats": list_of({"type": "object"}),
        "memory_usage": list_of(usage),
    }
    return object_of({"model_stats": list_of(object_of(model))})


def _repository() -> Record:
    optional_json = {"content": {JSON: {"schema": {"type": "object"}}}}
    entry = object_of(
        {"name": STRING, "version": STRING, "state": STRING, "reason": STRING}, optional=("reason",)
    )
    index = operation(
        "v2_index",
        _TAG,
        "Every version of every model",
        {
            "200": _json("By name.", list_of(entry)),
            **errors(
                "bad_request", "malformed_body", "request_timeout", "payload_too_large", *_STORE
            ),
        },
        requestBody=optional_json,
    )
    codes = ("bad_request", "malformed_body", "request_timeout", "payload_too_large")
    load = operation(
        "v2_load",
        _TAG,
        "Bring a model's weights into every worker, and keep them there",
        {
            "200": {"description": "They are there."},
            **errors(
                *codes, "unknown_function", "unavailable", "out_of_memory", "function_failed",
                "artifact_unavailable", *_STORE,
            ),
        },
        requestBody=optional_json,
    )  # fmt: skip
    unload = operation(
        "v2_unload",
        _TAG,
        "Take a model's weights out of every worker; the next request brings them back",
        {
            "200": {"description": "They are out, or were never there."},
            **errors(*codes, "unavailable", *_STORE),
        },
        requestBody=optional_json,
    )
    item = "/v2/repository/models/{model}"
    return {
        "/v2/repository/index": {"post": index},
        f"{item}/load": {"post": load, "parameters": [_MODEL]},
        f"{item}/unload": {"post": unload, "parameters": [_MODEL]},
    }


def describe() -> Record:
    """The paths of this door."""
    server = object_of({"name": STRING, "version": STRING, "extensions": list_of(STRING)})
    flag = object_of({"ready": FLAG})
    ready = _get("v2_server_ready", "Whether models can be called", flag, *_STORE)
    ready["responses"]["503"] = _json("They cannot, or the job store does not answer.", {})
    names = object_of({"models": list_of(STRING)})
    one, numbered = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    tracing = _unsupported("v2_trace_of_model", "Trace settings of a model")
    return {
        "/v2": {"get": _get("v2_server", "What this server can do", server, "internal")},
        "/v2/health/live": {
            "get": _get("v2_server_live", "Alive", object_of({"live": FLAG}), "internal")
        },
        "/v2/health/ready": {"get": ready},
        "/v2/models": {"get": _get("v2_models", "The names of all models", names, *_STORE)},
        "/v2/models/stats": {
            "get": _get("v2_all_stats", "The counters of all models", _stats(), *_STORE)
        },
        **_model("v2_model", one, [_MODEL]),
        **_model("v2_version", numbered, [_MODEL, _VERSION]),
        **_repository(),
        "/v2/trace/setting": _unsupported("v2_trace", "Trace settings"),
        f"{one}/trace/setting": tracing | {"parameters": [_MODEL]},
        "/v2/logging": _unsupported("v2_logging", "Log settings"),
    }
