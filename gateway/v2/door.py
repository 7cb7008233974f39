"""The V2 door: its routes, its scopes, and what stands behind them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request

from contract.access import Scope
from contract.errors import RequestError, Unavailable
from gateway import health
from gateway.answer import Answer, json_answer
from gateway.context import Gateway
from gateway.door import Door, HotPath
from gateway.request_body import read_body
from gateway.v2 import models, repository, statistics
from gateway.v2.description import describe, errors
from gateway.v2.errors import translate
from gateway.v2.infer import infer
from gateway.v2.models import ref_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
_MODELS, _REPOSITORY = "/v2/models", "/v2/repository"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
# Triton has these, and nothing here answers to them
UNSUPPORTED = {
    "/v2/trace/setting": "tracing is not supported",
    f"{_MODELS}/<model>/trace/setting": "tracing is not supported",
    "/v2/logging": "log settings are not supported; FUSEBOX_LOG_LEVEL is set where it starts",
}


def scope_of(method: str, path: str) -> Scope | None:
    """Reading, and asking what there is, for every key; inference; changes of what is loaded."""
    if method in _READS or path == f"{_REPOSITORY}/index":
        return None
    if path.endswith("/infer"):
        return Scope.INVOKE
    return Scope.DEPLOY if path.startswith(f"{_REPOSITORY}/") else Scope.ADMIN


def route(app: Flask, gateway: Gateway) -> None:
    """Add the routes of this protocol."""
    _route_server(app, gateway)
    _route_models(app, gateway)
    _route_repository(app, gateway)


def _route_server(app: Flask, gateway: Gateway) -> None:
    def unsupported(why: str, **_model: str) -> Response:
        raise RequestError(why)

    _get(app, "/v2", "v2_server", _server)
    _get(app, "/v2/health/live", "v2_server_live", lambda: json_answer({"live": True}))
    _get(app, "/v2/health/ready", "v2_server_ready", lambda: _ready(gateway))
    for number, (rule, why) in enumerate(UNSUPPORTED.items()):
        app.add_url_rule(
            rule, f"v2_unsupported_{number}", partial(unsupported, why), methods=["GET", "POST"]
        )


def _route_models(app: Flask, gateway: Gateway) -> None:
    _get(app, _MODELS, "v2_models", lambda: _names(gateway))
    _get(app, f"{_MODELS}/stats", "v2_all_stats", lambda: statistics.show_all(gateway))
    actions: dict[str, Callable[[Gateway, str, str | None], Answer]] = {
        "": _metadata,
        "/config": _config,
        "/ready": _model_ready,
        "/stats": lambda its, *which: statistics.show(its, ref_of(*which)),
        "/infer": lambda its, *which: infer(its, ref_of(*which), request.environ),
    }
    for suffix, act in actions.items():

        def answer(
            model: str, version: str | None = None, act: Callable[..., Answer] = act
        ) -> Response:
            return _respond(act(gateway, model, version))

        name, methods = suffix.replace("/", "_"), ["POST" if suffix == "/infer" else "GET"]
        one, numbered = f"{_MODELS}/<model>", f"{_MODELS}/<model>/versions/<version>"
        app.add_url_rule(f"{one}{suffix}", f"v2_model{name}", answer, methods=methods)
        app.add_url_rule(f"{numbered}{suffix}", f"v2_version{name}", answer, methods=methods)


def _route_repository(app: Flask, gateway: Gateway) -> None:
    def body() -> bytes:
        return read_body(request.environ, repository.MAX_BODY_BYTES)

    def load(model: str) -> Response:
        return _respond(repository.load(gateway, model, body()))

    def unload(model: str) -> Response:
        return _respond(repository.unload(gateway, model, body()))

    def index() -> Response:
        return _respond(repository.index(gateway, body()))

    add, item = app.add_url_rule, f"{_REPOSITORY}/models/<model>"
    add(f"{_REPOSITORY}/index", "v2_index", index, methods=["POST"])
    add(f"{item}/load", "v2_load", load, methods=["POST"])
    add(f"{item}/unload", "v2_unload", unload, methods=["POST"])


def _get(app: Flask, path: str, name: str, answer: Callable[[], Answer]) -> None:
    app.add_url_rule(path, name, lambda: _respond(answer()))


def _respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.wsgi_headers)


@cache
def _version() -> str:
    # takes longer to import than the rest of this module
    from importlib.metadata import version

    return version("fusebox")


def _server() -> Answer:
    return json_answer({"name": "fusebox", "version": _version(), "extensions": EXTENSIONS})


def _ready(gateway: Gateway) -> Answer:
    """Ready with no function deployed too: all models that there are can be called."""
    try:
        health.ready(gateway)
    except Unavailable as error:
        if error.extensions.get("missing") != ["function"]:
            return json_answer({"ready": False}, 503)
    return json_answer({"ready": True})


def _names(gateway: Gateway) -> Answer:
    return json_answer({"models": [ref.name for ref in gateway.store.functions.latest()]})


def _metadata(gateway: Gateway, model: str, version: str | None) -> Answer:
    ref = ref_of(model, version)
    function = gateway.store.functions.get(ref)
    versions = [ref.version] if ref.version else gateway.store.functions.versions(ref.name)
    return json_answer(models.metadata(function, versions))


def _config(gateway: Gateway, model: str, version: str | None) -> Answer:
    return json_answer(models.config(gateway.store.functions.get(ref_of(model, version))))


def _model_ready(gateway: Gateway, model: str, version: str | None) -> Answer:
    """Wherever its weights are: the next request brings them in."""
    function = gateway.store.functions.get(ref_of(model, version))
    is_ready = any(not worker.is_draining for worker in gateway.store.workers.all())
    record: dict[str, Any] = {"name": function.name, "ready": is_ready}
    return json_answer(record, 200 if is_ready else 503)


def _infer(gateway: Gateway, environ: WSGIEnvironment, model: str, version: str | None) -> Answer:
    return infer(gateway, ref_of(model, version), environ)


V2 = Door(
    "v2",
    "The Open Inference Protocol V2, for its own clients: Triton's, KServe's and others.",
    ("/v2",),
    route,
    translate,
    scope_of,
    describe,
    problems=errors,
    hot=HotPath(re.compile(f"{_MODELS}/([^/]+)(?:/versions/([^/]+))?/infer"), _infer),
)
