"""The routes of triggers and events, as the gateway lists its doors."""

from __future__ import annotations

from flask import Flask, Response, request

from contract.access import Scope
from gateway.answer import Answer
from gateway.context import Gateway
from gateway.door import Door
from gateway.problems import translate
from gateway.query import query_number
from gateway.request_body import read_body
from gateway.triggers import management
from gateway.triggers.definition import MAX_BODY_BYTES
from gateway.triggers.intake import Intake
from gateway.triggers.openapi import describe

_EVENTS, _TRIGGERS = "/v1/events", "/v1/triggers"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = "OPTIONS, POST"


def route(app: Flask, gateway: Gateway) -> None:
    """Add the routes."""
    intake = Intake(gateway)

    def read(max_bytes: int) -> bytes:
        return read_body(request.environ, max_bytes)

    def events() -> Response:
        if request.method == "OPTIONS":
            return _respond(_handshake(request.headers.get("WebHook-Request-Origin", "")))
        body = read(gateway.settings.max_body_bytes)
        return _respond(intake.accept(request.environ, body))

    def show_all() -> Response:
        count = query_number("count", request.args.get("count", "100"), 1, management.MAX_COUNT)
        after = request.args.get("after", "")
        return _respond(management.show_all(gateway, after, int(count)))

    def try_out(name: str) -> Response:
        body = read(management.MAX_EVENT_BYTES)
        return _respond(management.try_out(gateway, name, request.environ, body))

    def create() -> Response:
        return _respond(management.create(gateway, read(MAX_BODY_BYTES)))

    def pause(name: str) -> Response:
        return _respond(management.pause(gateway, name, is_paused=True))

    def resume(name: str) -> Response:
        return _respond(management.pause(gateway, name, is_paused=False))

    add = app.add_url_rule
    item = f"{_TRIGGERS}/<name>"
    # OPTIONS is answered here: it is the handshake of webhooks
    methods = ["POST", "OPTIONS"]
    add(_EVENTS, "send_events", events, methods=methods, provide_automatic_options=False)
    add(_TRIGGERS, "triggers", show_all)
    add(_TRIGGERS, "create_trigger", create, methods=["POST"])
    add(item, "trigger", lambda name: _respond(management.show(gateway, name)))
    add(
        item,
        "remove_trigger",
        lambda name: _respond(management.remove(gateway, name)),
        methods=["DELETE"],
    )
    add(f"{item}/pause", "pause_trigger", pause, methods=["POST"])
    add(f"{item}/resume", "resume_trigger", resume, methods=["POST"])
    add(f"{item}/test", "test_trigger", try_out, methods=["POST"])


def scope(method: str, path: str) -> Scope | None:
    """The scope that a key needs: to change triggers, to send events; every key may read."""
    if method in _READS:
        return None
    return Scope.INVOKE if path == _EVENTS else Scope.DEPLOY


def _handshake(origin: str) -> Answer:
    """Whether a sender of webhooks may send: any that may ask.

    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md
    """
    headers = [("Allow", _METHODS)]
    if origin and origin.isascii() and origin.isprintable():
        headers += [("WebHook-Allowed-Origin", origin), ("WebHook-Allowed-Rate", "*")]
    return Answer(b"", 200, headers=tuple(headers))


def _respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.wsgi_headers)


TRIGGERS = Door(
    "triggers",
    "Triggers call functions by themselves: at times, for entries, files and CloudEvents.",
    (_EVENTS, _TRIGGERS),
    route,
    translate,
    scope,
    describe,
)
