"""The door of predictions: its routes, its scopes, its description."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request

from contract.access import Scope
from contract.errors import JobSettled, UnknownJob
from contract.function import NAME as FUNCTION_NAME
from contract.function import FunctionRef
from contract.job import JOB_ID_CHARS, SETTLED, JobId, Status
from contract.origin import Origin
from gateway.answer import JSON, Answer, json_answer
from gateway.calls import Call, submit
from gateway.context import Gateway
from gateway.door import Door, HotPath, respond
from gateway.ended import call_to_end
from gateway.openapi_parts import ANY, Record, header, operation, problems
from gateway.predictions.records import (
    CANCELED,
    FAILED,
    PROCESSING,
    STARTING,
    SUCCEEDED,
    model,
    prediction,
    version,
)
from gateway.predictions.wishes import Wish, parse_model, parse_version, parse_wait
from gateway.problems import translate
from gateway.request_body import read_body

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

NAME = "predictions"
_PREDICTIONS, _MODELS = "/v1/predictions", "/v1/models/"
_MODEL = f"{_MODELS}<owner>/<name>"
_HEX = frozenset("0123456789abcdef")


def create(gateway: Gateway, ref: FunctionRef, wish: Wish, prefer: str) -> Answer:
    """A prediction: 201 with its end, or as it starts where nobody waits; 202 after a vain wait."""
    wait_s = parse_wait(prefer, gateway.settings.max_wait_s)
    origin = Origin(on_success=wish.told, on_failure=wish.told, is_kept=wait_s is None)
    max_bytes = gateway.settings.max_body_bytes
    call = Call(ref, lambda function: wish.payload(function, max_bytes), origin=origin)
    if wait_s is None:
        spec = submit(gateway, call).spec
        return json_answer(prediction(spec, Status.QUEUED, None, wish.given), 201)
    spec, outcome = call_to_end(gateway, call, None, wait_s)
    # clients take any other status than `starting` for the end
    status = Status.QUEUED if outcome is None else outcome.status
    record = prediction(spec, status, outcome, wish.given)
    return json_answer(record, 202 if outcome is None else 201)


def _predict(
    gateway: Gateway, environ: WSGIEnvironment, owner: str | None = None, name: str | None = None
) -> Answer:
    """POST /v1/predictions, where the body names the version, or that of a model."""
    # a wrong name first, whatever the body is
    model = None if owner is None or name is None else parse_model(owner, name)
    wish = Wish.of(read_body(environ, gateway.settings.max_body_bytes))
    ref = parse_version(wish.version) if model is None else model
    return create(gateway, ref, wish, environ.get("HTTP_PREFER", ""))


def show(gateway: Gateway, job_id: str) -> Answer:
    """GET /v1/predictions/<id>."""
    job = gateway.store.jobs.get(_checked(job_id))
    return json_answer(prediction(job.spec, job.status, job.outcome))


def cancel(gateway: Gateway, job_id: str) -> Answer:
    """POST /v1/predictions/<id>/cancel: what has ended stays as it is."""
    with suppress(JobSettled):
        gateway.store.jobs.cancel(_checked(job_id))
    return show(gateway, job_id)


def show_model(gateway: Gateway, owner: str, name: str) -> Answer:
    """GET /v1/models/<owner>/<name>."""
    function = gateway.store.functions.get(parse_model(owner, name))
    stats = gateway.store.telemetry.stats([function.name])[function.name]
    runs = sum(stats.get(f"jobs:{status}", 0) for status in SETTLED)
    return json_answer(model(function, runs))


def show_versions(gateway: Gateway, owner: str, name: str) -> Answer:
    """GET /v1/models/<owner>/<name>/versions: the newest first."""
    functions, ref = gateway.store.functions, parse_model(owner, name)
    numbers = functions.versions(ref.name)
    found = [functions.get(FunctionRef(ref.name, number)) for number in reversed(numbers)]
    return json_answer({"previous": None, "next": None, "results": [version(f) for f in found]})


def show_version(gateway: Gateway, owner: str, name: str, wanted: str) -> Answer:
    """GET /v1/models/<owner>/<name>/versions/<id>."""
    return json_answer(version(gateway.store.functions.get(parse_model(owner, name, wanted))))


def _checked(job_id: str) -> JobId:
    if len(job_id) != JOB_ID_CHARS or not _HEX.issuperset(job_id):
        raise UnknownJob()
    return JobId(job_id)


def _route(app: Flask, gateway: Gateway) -> None:
    def predict(**model: str) -> Response:
        return respond(_predict(gateway, request.environ, **model))

    def add(path: str, endpoint: str, answer: Any, method: str = "GET") -> None:
        view = answer if method == "POST" else lambda **parts: respond(answer(gateway, **parts))
        app.add_url_rule(path, f"{NAME}_{endpoint}", view, methods=[method])

    add(_PREDICTIONS, "create", predict, "POST")
    add(f"{_MODEL}/predictions", "create_of", predict, "POST")
    add(f"{_PREDICTIONS}/<job_id>", "show", show)
    add(
        f"{_PREDICTIONS}/<job_id>/cancel",
        "cancel",
        lambda job_id: respond(cancel(gateway, job_id)),
        "POST",
    )
    add(_MODEL, "model", show_model)
    add(f"{_MODEL}/versions", "versions", show_versions)
    add(f"{_MODEL}/versions/<wanted>", "version", show_version)


def _scope(method: str, path: str) -> Scope | None:
    if method in ("GET", "HEAD", "OPTIONS") and path.startswith(_MODELS):
        return None
    return Scope.INVOKE


_STORE = ("store_unavailable", "internal")
_REFUSALS = (
    "bad_request", "malformed_body", "request_timeout", "payload_too_large", "invalid_input",
    "unknown_function", "queue_full", "wait_too_long", "unavailable", *_STORE,
)  # fmt: skip


def _describe() -> Record:
    create_one = _create("create", "Predict with a version")
    create_of = _create("create_of", "Predict with the latest version of a model")
    shown = _operation("show", "A prediction", "200", "unknown_job")
    cancelled = _operation("cancel", "Cancel a prediction", "200", "unknown_job")
    listed = _object({"results": {"type": "array"}})
    job, owner = _part("job_id", f"^[0-9a-f]{{{JOB_ID_CHARS}}}$"), _part("owner", "^[A-Za-z0-9]+$")
    name = _part("name", f"^{FUNCTION_NAME.pattern}$")
    models = f"{_MODELS}{{owner}}/{{name}}"
    return {
        _PREDICTIONS: {"post": create_one},
        f"{_PREDICTIONS}/{{job_id}}": {"get": shown, "parameters": [job]},
        f"{_PREDICTIONS}/{{job_id}}/cancel": {"post": cancelled, "parameters": [job]},
        f"{models}/predictions": {"post": create_of, "parameters": [owner, name]},
        models: {"get": _model("model", "A function as a model"), "parameters": [owner, name]},
        f"{models}/versions": {
            "get": _model("versions", "Its versions", listed),
            "parameters": [owner, name],
        },
        f"{models}/versions/{{wanted}}": {
            "get": _model("version", "A version"),
            "parameters": [owner, name, _part("wanted", "^[a-z0-9@-]+$")],
        },
    }


def _create(name: str, summary: str) -> Record:
    body = _object(
        {
            "version": {"type": "string"},
            "input": {"type": "object"},
            "webhook": {"type": "string"},
            "webhook_events_filter": {"type": "array", "items": {"type": "string"}},
        },
    )
    made = _operation(name, summary, "201", *_REFUSALS)
    made["responses"]["202"] = {
        "description": "It goes on.",
        "content": {JSON: {"schema": _PREDICTION}},
    }
    prefer = header("Prefer", "`wait` or `wait=S`: answer with its end, or after S seconds.")
    return made | {"parameters": [prefer], "requestBody": {"content": {JSON: {"schema": body}}}}


def _operation(name: str, summary: str, status: str, *codes: str) -> Record:
    done = {"description": "The prediction.", "content": {JSON: {"schema": _PREDICTION}}}
    responses = {status: done, **problems(*codes, *_STORE)}
    return operation(f"{NAME}_{name}", NAME, summary, responses)


def _model(name: str, summary: str, schema: Record | None = None) -> Record:
    content = {JSON: {"schema": schema} if schema else ANY}
    done = {"200": {"description": summary, "content": content}}
    return operation(f"{NAME}_{name}", NAME, summary, done | problems("unknown_function", *_STORE))


def _object(properties: Record) -> Record:
    return {"type": "object", "properties": properties}


def _part(name: str, pattern: str) -> Record:
    schema = {"type": "string", "pattern": pattern, "maxLength": 100}
    return {"name": name, "in": "path", "required": True, "schema": schema}


_STATUSES = [STARTING, PROCESSING, SUCCEEDED, FAILED, CANCELED]
_PREDICTION: Record = _object(
    {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "version": {"type": "string"},
        "status": {"type": "string", "enum": _STATUSES},
        "urls": {"type": "object"},
    }
)

PREDICTIONS = Door(
    NAME,
    "Predictions, as Replicate's HTTP API has them.",
    (_PREDICTIONS, _MODELS),
    _route,
    translate,
    _scope,
    _describe,
    hot=HotPath(re.compile("/v1(?:/models/([^/]+)/([^/]+))?/predictions"), _predict),
)
