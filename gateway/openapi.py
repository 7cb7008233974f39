"""The OpenAPI 3.1 description of the gateway, as data; tests hold it against routes and answers."""

from __future__ import annotations

from functools import cache

from contract.function import NAME, QUALIFIER
from contract.job import JOB_ID_CHARS, MAX_PRIORITY, TIMINGS, Status
from contract.probe import HEADER as COMPUTE_MS
from gateway.answer import JSON
from gateway.doors import DOORS
from gateway.functions import TAR
from gateway.idempotency import PATTERN as IDEMPOTENCY_KEY
from gateway.openapi_access import SCHEMES, keys, secured
from gateway.openapi_aliases import STICKY, aliases
from gateway.openapi_deliveries import ON_FAILURE, ON_SUCCESS, dead_letters
from gateway.openapi_parts import Record
from gateway.openapi_parts import header as _header
from gateway.openapi_parts import operation as _operation
from gateway.openapi_parts import problems as _problems
from gateway.openapi_parts import query as _query
from gateway.openapi_parts import ref as _ref
from gateway.openapi_parts import shown as _shown
from gateway.openapi_schemas import schemas
from gateway.preferences import MSGPACK, NPY, NPZ

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TEXT = {"schema": {"type": "string"}}
_STAGES = ", ".join(TIMINGS)
_HEADERS: Record = {
    "Fusebox-Job": {"description": "The job's id.", "schema": {"type": "string"}},
    "Server-Timing": {
        "description": f"Milliseconds by stage: {_STAGES}; total alone before the job has run.",
        "schema": {"type": "string"},
    },
}
_PREFERENCE: Record = {
    "Preference-Applied": {"description": "What of Prefer was used.", "schema": {"type": "string"}}
}
_LOCATION: Record = {"Location": {"description": "Where to find it.", "schema": {"type": "string"}}}
_NAME_PARAMETER: Record = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "`NAME`: the latest version, `NAME@3`: version 3, `NAME@prod`: an alias.",
    "schema": {"type": "string", "pattern": f"^{NAME.pattern}(@({QUALIFIER.pattern}))?$"},
}
_ARTIFACT_PARAMETER: Record = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": r"^[0-9a-f]{64}\.tar$"},
}
_JOB_PARAMETER: Record = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^[0-9a-f]{{{JOB_ID_CHARS}}}$"},
}
_ACCEPT: Record = {
    "name": "Accept",
    "in": "header",
    "description": f"`{NPZ}` needs outputs, `{NPY}` a single one. JSON without it.",
    "schema": {"type": "string", "default": JSON},
}


_IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "A quoted string, of 255 characters at most: the request sent again under it, by the same "
    "caller to the same function, is the same job and gets its answer.",
    schema={"type": "string", "pattern": IDEMPOTENCY_KEY, "maxLength": 512},
)
_PRIORITY = _header(
    "Fusebox-Priority",
    "Jobs of a higher priority go first, whatever is due, until those of lower ones have waited "
    "for long.",
    schema={"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY, "default": 0},
)
_STORE = ("store_unavailable", "internal")
_OF_JOBS = (
    "function_failed", "handler_failed", "handler_timeout", "worker_lost",
    "out_of_memory", "deadline_exceeded", "deadline_unmeetable",
    "job_cancelled",
)  # fmt: skip


def _invoke() -> Record:
    arrays = {NPZ: _BINARY, NPY: _BINARY}
    return _operation(
        "invoke",
        "invocations",
        "Call a function",
        {
            "200": {
                "description": "The outputs, or what postprocess returned.",
                "headers": _HEADERS | _PREFERENCE,
                "content": {JSON: _ref("Result"), MSGPACK: _ref("Result"), **arrays},
            },
            "202": {
                "description": "Accepted; the job goes on and is found at Location.",
                "headers": _HEADERS | _PREFERENCE | _LOCATION,
                "content": {JSON: _ref("Job"), MSGPACK: _ref("Job")},
            },
            **_problems(
                "malformed_body", "not_acceptable", "request_timeout", "payload_too_large",
                "unsupported_media_type", "invalid_input", "unknown_function", "unknown_alias",
                "queue_full", "wait_too_long", "unavailable", "bad_request",
                "idempotency_key_reused", *_OF_JOBS, *_STORE,
            ),
        },
        description="Waits for the answer, unless `Prefer` says otherwise. A function with a "
        "preprocess takes the whole body, of any type, as its payload.",
        parameters=[
            _header("Prefer", "`respond-async` answers 202 at once, `wait=S` after S seconds."),
            _PRIORITY,
            ON_SUCCESS,
            ON_FAILURE,
            _IDEMPOTENCY_KEY,
            STICKY,
            _header("traceparent", "W3C Trace Context: the job belongs to the caller's trace."),
            _ACCEPT,
        ],
        requestBody={
            "required": True,
            "content": {
                JSON: _ref("Inputs"),
                MSGPACK: _ref("PackedInputs"),
                **arrays,
                "*/*": {"schema": {"description": "Only with a preprocess."}},
            },
        },
    )  # fmt: skip


def _functions() -> Record:
    digest = _header(
        "Content-Digest", "`sha-256=:<base64>:` of the body (RFC 9530).", required=True
    )
    compute_ms = _header(
        COMPUTE_MS, "Milliseconds of a run where the artifact was made, by rows: `1=0.52, 8=3.1`."
    )
    deploy = _operation(
        "deploy",
        "functions",
        "Deploy an artifact as the next version",
        {
            "201": _shown("The new version.", "Function", headers=_LOCATION),
            **_problems(
                "bad_request", "digest_mismatch", "request_timeout", "payload_too_large",
                "unsupported_media_type", "invalid_artifact", "unknown_function", "storage_full",
                "out_of_memory", "artifact_unavailable",
                *_STORE,
            ),
        },
        parameters=[digest, compute_ms],
        requestBody={"required": True, "content": {TAR: _BINARY}},
    )  # fmt: skip
    listing = _operation(
        "functions",
        "functions",
        "The latest version of every function",
        {"200": _shown("By name.", "Functions"), **_problems(*_STORE)},
    )
    describe = _operation(
        "function",
        "functions",
        "Describe a version",
        {
            "200": _shown("The version.", "Function"),
            **_problems("unknown_function", "unknown_alias", *_STORE),
        },
    )
    remove = _operation(
        "remove",
        "functions",
        "Take a version, or all, out of service; accepted jobs still run",
        {
            "200": _shown("What was removed.", "Removed"),
            **_problems("unknown_function", "bad_request", "alias_in_use", *_STORE),
        },
    )
    wait = _query("wait", "Seconds to wait for it.", type="number", minimum=0, default=30)
    load, unload = (
        _operation(
            verb,
            "functions",
            summary,
            {
                "200": _shown("It is so, in at least one worker.", "Loading"),
                "202": _shown("Workers go on with it.", "Loading"),
                **_problems("bad_request", "invalid_input", "unknown_function", *more, *_STORE),
            },
            parameters=[wait],
        )
        for verb, summary, more in (
            (
                "load",
                "Bring its weights into every worker, and keep them there",
                ("unavailable", "out_of_memory", "function_failed", "artifact_unavailable"),
            ),
            ("unload", "Take its weights out of every worker; the next call brings them back", ()),
        )
    )
    lines = _operation(
        "logs",
        "functions",
        "What the function's own code printed and raised",
        {
            "200": _shown("The newest lines, oldest first.", "Log"),
            **_problems("unknown_function", "unknown_alias", "invalid_input", *_STORE),
        },
        parameters=[
            _query("count", "Lines at most.", type="integer", minimum=1, maximum=1000, default=100),
            _query("since", "Not before, Unix seconds.", type="number", minimum=0, default=0),
        ],
    )
    graph = _operation(
        "graph",
        "functions",
        "Its operators, and the content hashes of its weights",
        {
            "200": _shown("As it was deployed.", "FunctionGraph"),
            **_problems("unknown_function", "unknown_alias", "function_failed", *_STORE),
        },
    )
    artifact = _operation(
        "artifact",
        "functions",
        "An artifact as it was deployed; for workers on other machines",
        {
            "200": {"description": "The tar.", "content": {TAR: _BINARY}},
            "206": {"description": "The range asked for.", "content": {TAR: _BINARY}},
            "416": {"description": "The range is not in it."},
            **_problems("not_found", "internal"),
        },
        parameters=[_header("Range", "One range of bytes with a beginning (RFC 9110).")],
    )
    item = {"parameters": [_NAME_PARAMETER]}
    return {
        "/v1/functions": {"get": listing},
        "/v1/functions/{name}": {"get": describe, "put": deploy, "delete": remove, **item},
        "/v1/functions/{name}/invoke": {"post": _invoke(), **item},
        "/v1/functions/{name}/load": {"post": load, **item},
        "/v1/functions/{name}/unload": {"post": unload, **item},
        "/v1/functions/{name}/logs": {"get": lines, **item},
        "/v1/functions/{name}/graph": {"get": graph, **item},
        "/v1/artifacts/{name}": {"get": artifact, "parameters": [_ARTIFACT_PARAMETER]},
    }


def _jobs() -> Record:
    job = {JSON: _ref("Job"), MSGPACK: _ref("Job")}
    shown = {"description": "The job.", "headers": _HEADERS}
    wait = _query("wait", "Answer when the job settles, or after this time, seconds.",
                  type="number", minimum=0)  # fmt: skip
    show = _operation(
        "job",
        "jobs",
        "A job, at once or when it has settled",
        {
            "200": shown | {"content": job | {NPZ: _BINARY, NPY: _BINARY}},
            **_problems("unknown_job", "not_acceptable", "invalid_input", *_STORE),
        },
        parameters=[wait, _ACCEPT],
    )
    cancel = _operation(
        "cancel",
        "jobs",
        "Cancel a job",
        {
            "200": shown | {"content": job},
            **_problems("unknown_job", "not_acceptable", "job_settled", *_STORE),
        },
    )
    follow = _operation(
        "job_events",
        "jobs",
        "Events of a job as they come: queued, started, progress, done",
        {
            "200": {"description": "The stream.", "content": {"text/event-stream": _TEXT}},
            "204": {"description": "Its last event was seen already; do not come back."},
            **_problems("unknown_job", "not_acceptable", "invalid_input", "unavailable", *_STORE),
        },
        parameters=[_header("Last-Event-ID", "Of the last event seen: those after it follow.")],
    )
    item = {"parameters": [_JOB_PARAMETER]}
    return {
        "/v1/jobs/{job_id}": {"get": show, "delete": cancel, **item},
        "/v1/jobs/{job_id}/events": {"get": follow, **item},
    }


def _platform() -> Record:
    def get(identity: str, summary: str, answer: Record, *codes: str) -> Record:
        responses = {"200": answer, **_problems(*codes)}
        return {"get": _operation(identity, "platform", summary, responses)}

    def text(media: str) -> Record:
        return {"description": "The page.", "content": {media: _TEXT}}

    groups = get("groups", "The groups that ended last", _shown("The newest first.", "Groups"),
                 "invalid_input", *_STORE)  # fmt: skip
    groups["get"]["parameters"] = [
        _query("count", "Groups at most.", type="integer", minimum=1, maximum=4000, default=100)
    ]
    status = get("status", "The status page", text("text/html"), "internal")
    status["get"]["responses"]["503"] = text("text/html")
    status["get"]["parameters"] = [_query("part", "Only what changes.", type="string")]
    return {
        "/v1/workers": get("workers", "The workers", _shown("By id.", "Workers"), *_STORE),
        "/v1/groups": groups,
        "/v1/stats": get("stats", "All counters", _shown("Of this moment.", "Stats"), *_STORE),
        "/healthz": get("healthz", "Alive", _shown("This process answers.", "Status"), "internal"),
        "/readyz": get("readyz", "Able to answer a deployed function", _shown("It is.", "Status"),
                       "unavailable", *_STORE),
        "/metrics": get("metrics", "Prometheus metrics", text("text/plain"), *_STORE),
        "/openapi.json": get("openapi", "This document", _shown("OpenAPI 3.1.", None), "internal"),
        "/": status,
        "/docs": get("docs", "This document for people", text("text/html"), "internal"),
    }  # fmt: skip


@cache
def document(is_guarded: bool = False) -> Record:
    """GET /openapi.json; `is_guarded`: operations need API keys."""
    paths = _functions() | aliases() | _jobs() | keys() | dead_letters() | _platform()
    for door in DOORS:
        paths |= door.describe()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fusebox",
            "version": "1",
            "summary": "Functions as a service for PyTorch models on one small accelerator.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "invocations", "description": "Call functions."},
            {"name": "jobs", "description": f"Every call is a job: {', '.join(Status)}."},
            {"name": "functions", "description": "Deploy, describe and remove functions."},
            {"name": "deliveries", "description": "Dead letters, and the secret of webhooks."},
            {"name": "keys", "description": "Make, list and revoke API keys."},
            {"name": "platform", "description": "Workers, counters, health and pages."},
            *({"name": door.name, "description": door.summary} for door in DOORS),
        ],
        "paths": secured(paths, DOORS) if is_guarded else paths,
        "components": {"schemas": schemas(), "securitySchemes": SCHEMES},
    }
