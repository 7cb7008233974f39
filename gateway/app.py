"""The Flask application: routes, and the one place where errors become answers.

Handlers are plain functions from a `Gateway` and what they need of the request to an `Answer`; this
module alone knows Flask. Invocations, the hot path, pass Flask's contexts by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request

from contract.probe import HEADER as COMPUTE_MS
from contract.settings import Settings
from contract.store import Store
from contract.store.wanted import Place
from gateway import (
    aliases,
    api_keys,
    dead_letters,
    functions,
    health,
    job_events,
    jobs,
    loading,
    pages,
)
from gateway.access import guarded
from gateway.answer import STATUS_LINES, Answer, json_answer
from gateway.context import Gateway
from gateway.door import HotPath, door_at
from gateway.doors import DOORS
from gateway.explanations import groups_record
from gateway.handing_out import hand_out
from gateway.idempotency import invoke_once
from gateway.invoke import invoke
from gateway.metrics import metrics
from gateway.openapi import document
from gateway.overview import Overview
from gateway.problems import translate
from gateway.query import query_number
from gateway.request_body import body_reader, read_body
from gateway.tracing import traced

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# that one answer shows
MOST_GROUPS = 4000


def create_app(settings: Settings, store: Store) -> Flask:
    """The gateway over a store; nothing connects before the first request."""
    gateway = Gateway.wire(settings, store)
    app = Flask(__name__)
    app.extensions["gateway"] = gateway
    app.register_error_handler(Exception, lambda error: _respond(_translate(error, request.path)))
    _route_functions(app, gateway)
    _route_aliases(app, gateway)
    _route_jobs(app, gateway)
    _route_platform(app, gateway)
    _route_keys(app, gateway)
    pages.route(app, gateway)
    dead_letters.route(app, gateway)
    for door in DOORS:
        door.route(app, gateway)
    # a WSGI middleware is set by assignment: https://flask.palletsprojects.com/patterns/wsgi
    inner = guarded(gateway, _short_cut(gateway, app.wsgi_app), DOORS)
    app.wsgi_app = traced(gateway, inner, app.url_map)  # type: ignore[method-assign, assignment]
    return app


def _translate(error: Exception, path: str) -> Answer:
    door = door_at(path, DOORS)
    return (door.translate if door else translate)(error, path)


def _route_functions(app: Flask, gateway: Gateway) -> None:
    def deploy(name: str) -> Response:
        headers = request.headers
        fields = ("Content-Type", "Content-Digest", COMPUTE_MS)
        upload = functions.Upload(*(headers.get(name, "") for name in fields))
        read = body_reader(request.environ, gateway.settings.max_artifact_bytes)
        return _respond(functions.deploy(gateway, name, upload, read))

    def show_log(name: str) -> Response:
        count, since = request.args.get("count", "100"), request.args.get("since", "0")
        return _respond(functions.show_log(gateway, name, count, since))

    def place(name: str, wanted: Place) -> Response:
        wait = request.args.get("wait", str(loading.WAIT_S))
        return _respond(loading.answer(gateway, name, wanted, wait))

    def hand(name: str) -> Response:
        found = hand_out(gateway, name, request.headers.get("Range", ""))
        return Response(found.body, found.status, found.headers)

    add = app.add_url_rule
    item = "/v1/functions/<name>"
    add("/v1/functions", "functions", lambda: _respond(functions.show_all(gateway)))
    add("/v1/artifacts/<name>", "artifact", hand)
    add(item, "deploy", deploy, methods=["PUT"])
    add(item, "function", lambda name: _respond(functions.show(gateway, name)))
    add(item, "remove", lambda name: _respond(functions.remove(gateway, name)), methods=["DELETE"])
    add(f"{item}/logs", "logs", show_log)
    add(f"{item}/graph", "graph", lambda name: _respond(functions.show_graph(gateway, name)))
    for verb, wanted in (("load", Place.LOADED), ("unload", Place.UNLOADED)):
        add(f"{item}/{verb}", verb, partial(place, wanted=wanted), methods=["POST"])
    add(
        f"{item}/invoke",
        "invoke",
        lambda name: _respond(_invoke(gateway, request.environ, name)),
        methods=["POST"],
    )


def _route_aliases(app: Flask, gateway: Gateway) -> None:
    def put(name: str, alias: str) -> Response:
        body = read_body(request.environ, aliases.MAX_BODY_BYTES)
        return _respond(aliases.put(gateway, name, alias, body))

    add = app.add_url_rule
    base = "/v1/functions/<name>/aliases"
    add(base, "aliases", lambda name: _respond(aliases.show_all(gateway, name)))
    add(f"{base}/<alias>", "put_alias", put, methods=["PUT"])
    for suffix, endpoint, method, act in (
        ("", "alias", "GET", aliases.show),
        ("", "remove_alias", "DELETE", aliases.remove),
        ("/rollback", "roll_back_alias", "POST", aliases.roll_back),
    ):
        add(
            f"{base}/<alias>{suffix}",
            endpoint,
            lambda name, alias, act=act: _respond(act(gateway, name, alias)),
            methods=[method],
        )


def _route_jobs(app: Flask, gateway: Gateway) -> None:
    def show(job_id: str) -> Response:
        text = request.args.get("wait")
        wait_s = None if text is None else query_number("wait", text, 0, 1e9)
        return _respond(jobs.show(gateway, job_id, request.headers.get("Accept", ""), wait_s))

    def cancel(job_id: str) -> Response:
        return _respond(jobs.cancel(gateway, job_id, request.headers.get("Accept", "")))

    def follow(job_id: str) -> Response:
        accept, last = request.headers.get("Accept", ""), request.headers.get("Last-Event-ID", "")
        found = job_events.events(gateway, job_id, accept, last)
        if isinstance(found, Answer):
            return _respond(found)
        # proxies pass it on as it comes
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Response(found, 200, headers, content_type=job_events.EVENT_STREAM)

    app.add_url_rule("/v1/jobs/<job_id>/events", "job_events", follow)
    app.add_url_rule("/v1/jobs/<job_id>", "job", show)
    app.add_url_rule("/v1/jobs/<job_id>", "cancel", cancel, methods=["DELETE"])


def _route_platform(app: Flask, gateway: Gateway) -> None:
    def groups() -> Response:
        count = query_number("count", request.args.get("count", "100"), 1, MOST_GROUPS)
        last = gateway.store.scheduling.last_groups(int(count))
        return _respond(json_answer(groups_record(last)))

    def workers() -> Answer:
        return json_answer({"workers": [asdict(worker) for worker in gateway.store.workers.all()]})

    answers: dict[str, Callable[[], Answer]] = {
        "/v1/workers": workers,
        "/v1/stats": lambda: json_answer(Overview.read(gateway.store).as_json()),
        "/healthz": health.healthy,
        "/readyz": lambda: health.ready(gateway),
        "/metrics": lambda: metrics(gateway.store),
        "/openapi.json": lambda: json_answer(document(gateway.settings.is_guarded)),
    }
    for path, answer in answers.items():
        app.add_url_rule(path, path.strip("/"), lambda answer=answer: _respond(answer()))
    app.add_url_rule("/v1/groups", "groups", groups)


def _route_keys(app: Flask, gateway: Gateway) -> None:
    def create() -> Response:
        return _respond(
            api_keys.create(gateway, read_body(request.environ, api_keys.MAX_BODY_BYTES))
        )

    add = app.add_url_rule
    add("/v1/keys", "keys", lambda: _respond(api_keys.show_all(gateway)))
    add("/v1/keys", "create_key", create, methods=["POST"])
    add(
        "/v1/keys/<key_id>",
        "revoke_key",
        lambda key_id: _respond(api_keys.revoke(gateway, key_id)),
        methods=["DELETE"],
    )


def _respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.wsgi_headers)


def _invoke(gateway: Gateway, environ: WSGIEnvironment, name: str) -> Answer:
    body = read_body(environ, gateway.settings.max_body_bytes)
    if "HTTP_IDEMPOTENCY_KEY" in environ:
        return invoke_once(gateway, name, environ, body)
    return invoke(gateway, name, environ, body)


_INVOKE = HotPath(re.compile("/v1/functions/(.*)/invoke"), _invoke)


def _short_cut(gateway: Gateway, app: WSGIApplication) -> WSGIApplication:
    """Answer invocations without Flask's contexts, which cost as much as all the rest of one."""
    hot = [_INVOKE, *(door.hot for door in DOORS if door.hot is not None)]

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        found = _hot_at(path, hot) if environ["REQUEST_METHOD"] == "POST" else None
        if found is None:
            return app(environ, start_response)
        answer_of, parts = found
        try:
            answer = answer_of(gateway, environ, *parts)
        except Exception as error:  # noqa: BLE001  # as Flask's own error handler does
            # WSGI has bytes as latin-1
            answer = _translate(error, path.encode("latin-1").decode(errors="replace"))
        start_response(STATUS_LINES[answer.status], answer.wsgi_headers)
        return (answer.body,)

    return call


def _hot_at(
    path: str, hot: Iterable[HotPath]
) -> tuple[Callable[..., Answer], Sequence[str]] | None:
    for one in hot:
        match = one.paths.fullmatch(path)
        if match is not None:
            return one.answer, match.groups()
    return None


def gateway_of(app: Any) -> Gateway:
    """The gateway behind an application of `create_app`."""
    found = app.extensions["gateway"]
    assert isinstance(found, Gateway)
    return found
