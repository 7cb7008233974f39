"""The door of OpenFaaS: its routes, its scopes, its description."""

from __future__ import annotations

import base64
import math
import re
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from contract.access import Scope
from contract.errors import FuseboxError, RequestError
from contract.log import Log
from gateway.answer import JSON, Answer
from gateway.context import Gateway
from gateway.door import Door, HotPath, bearer, respond
from gateway.jobs import cancel as cancel_job
from gateway.openapi_parts import ANY, Record, header, operation, query
from gateway.openfaas import system
from gateway.openfaas.callbacks import callback_of
from gateway.openfaas.calls import TEXT, call, call_async, failed
from gateway.problems import RETRY_AFTER_MS
from gateway.request_body import read_body

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = Log("gateway")
NAME = "openfaas"
# HEAD and OPTIONS tell of a route, not of a function
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REFUSED = (
    "Functions are PyTorch models, not images: deploy with "
    "`fusebox deploy handler.py --name NAME`, remove with `fusebox rm NAME`"
)
_FUNCTION, _ASYNC = "/function/{name}", "/async-function/{name}"


def _route(app: Flask, gateway: Gateway) -> None:
    def invoke(name: str) -> Response:
        return respond(_call(gateway, request.environ, name))

    def later(name: str) -> Response:
        callback = callback_of(request.headers.get("X-Callback-Url", ""))
        body = read_body(request.environ, gateway.settings.max_body_bytes)
        return respond(call_async(gateway, name, request.environ, body, callback))

    def cancel(name: str) -> Response:
        cancel_job(gateway, name, "")
        return respond(Answer(b"", 202, TEXT))

    def refuse() -> Response:
        raise RequestError(_REFUSED)

    def namespace() -> str:
        return request.args.get("namespace", "")

    add = app.add_url_rule
    add("/function/<name>", "openfaas_call", invoke, methods=METHODS)
    add("/async-function/<name>", "openfaas_async", later, methods=["POST"])
    add("/async-function/<name>", "openfaas_cancel", cancel, methods=["DELETE"])
    add(
        "/system/functions",
        "openfaas_functions",
        lambda: respond(system.show_all(gateway, namespace())),
    )
    add("/system/functions", "openfaas_refuse", refuse, methods=["POST", "PUT", "DELETE"])
    add(
        "/system/function/<name>",
        "openfaas_function",
        lambda name: respond(system.show(gateway, name, namespace())),
    )
    add("/system/info", "openfaas_info", lambda: respond(system.info()))
    add("/system/namespaces", "openfaas_namespaces", lambda: respond(system.namespaces()))


def _call(gateway: Gateway, environ: WSGIEnvironment, name: str) -> Answer:
    body = read_body(environ, gateway.settings.max_body_bytes)
    return call(gateway, name, environ, body)


def _translate(error: Exception, path: str) -> Answer:
    """Any exception as text, as OpenFaaS has it; unknown ones are logged and stay inside."""
    if isinstance(error, HTTPException):
        text = error.description or str(error)
        headers = tuple(
            (name, value)
            for name, value in error.get_headers()
            if name.lower() not in ("content-type", "content-length")
        )
        return Answer(text.encode(), error.code or 500, TEXT, headers)
    if not isinstance(error, FuseboxError) or error.code == FuseboxError.code:
        log.exception("request_failed", path=path)
        return failed(FuseboxError())
    answer = failed(error)
    if error.http_status not in (429, 503):
        return answer
    wait_s = math.ceil(error.extensions.get("retry_after_ms", RETRY_AFTER_MS) / 1000)
    return answer._replace(headers=(*answer.headers, ("Retry-After", str(wait_s))))


def _scope(method: str, path: str) -> Scope | None:
    if path.startswith(("/function/", "/async-function/")):
        return Scope.INVOKE
    return None if method in ("GET", "HEAD", "OPTIONS") else Scope.DEPLOY


def _credential(environ: dict[str, Any]) -> str:
    """The key of `Bearer`, or the password of `Basic`, which is what faas-cli sends."""
    scheme, _, text = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        return bearer(environ)
    try:
        decoded = base64.b64decode(text.strip(), validate=True).decode()
    except ValueError:
        # neither base64 nor text
        return ""
    return decoded.partition(":")[2]


def _describe() -> Record:
    calls = {method.lower(): _called(method) for method in METHODS}
    part = {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "A function; behind a dot its namespace.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 256},
    }
    cancel = _operation("cancel", "Cancel a call, by its job's id", {"202": _text("It is.")},
                        "404", "409")  # fmt: skip
    refused = {
        method: _operation(f"refuse_{method}", "Refused: deploy with `fusebox deploy`",
                           {"200": _json("Never.")}, "400")
        for method in ("post", "put", "delete")
    }  # fmt: skip
    namespace = query("namespace", "The one there is.", type="string")
    listing = _operation("functions", "The functions", {"200": _json("By name.")}, "404")
    shown = _operation("function", "A function", {"200": _json("Its status.")}, "404")
    return {
        _FUNCTION: {"parameters": [part], **calls},
        _ASYNC: {"parameters": [part], "post": _called_async(), "delete": cancel},
        "/system/functions": {"get": listing | {"parameters": [namespace]}, **refused},
        "/system/function/{name}": {
            "parameters": [part],
            "get": shown | {"parameters": [namespace]},
        },
        "/system/info": {"get": _operation("info", "What this is", {"200": _json("It.")})},
        "/system/namespaces": {
            "get": _operation("namespaces", "The one namespace", {"200": _json("Its name.")})
        },
    }


_CALL_ERRORS = ("400", "404", "406", "408", "409", "413", "415", "422", "429", "504", "507")
_CALL_ID = header("X-Call-Id", "What the caller knows the call by; echoed.",
                  schema={"type": "string", "pattern": "^[!-~]{1,128}$"})  # fmt: skip


def _called(method: str) -> Record:
    done = {
        "200": {"description": "What the function returned.", "content": {JSON: ANY, TEXT: ANY}},
        "202": _text("Accepted; it goes on and is found at Location."),
    }
    more: Record = {"parameters": [_CALL_ID]}
    if method not in ("GET", "DELETE"):
        more["requestBody"] = {"content": {JSON: ANY, "*/*": ANY}}
    return _operation(f"call_{method.lower()}", "Call a function", done, *_CALL_ERRORS, **more)


def _called_async() -> Record:
    callback = header("X-Callback-Url", "Hears of the end: the function's answer is posted to it.")
    more = {
        "parameters": [_CALL_ID, callback],
        "requestBody": {"content": {JSON: ANY, "*/*": ANY}},
    }
    done = {"202": _text("Accepted.")}
    return _operation("async", "Call a function without waiting", done, *_CALL_ERRORS, **more)


def _operation(name: str, summary: str, done: Record, *errors: str, **more: Any) -> Record:
    about = "As text; `X-OpenFaaS-Internal` where it is not the function's."
    responses = done | {status: _text(about) for status in (*errors, "500", "503")}
    return operation(f"{NAME}_{name}", NAME, summary, dict(sorted(responses.items())), **more)


def _text(about: str) -> Record:
    return {"description": about, "content": {TEXT: ANY}}


def _json(about: str) -> Record:
    return {"description": about, "content": {JSON: ANY}}


OPENFAAS = Door(
    NAME,
    "The routes of an OpenFaaS gateway.",
    ("/function/", "/async-function/", "/system/"),
    _route,
    _translate,
    _scope,
    _describe,
    _credential,
    hot=HotPath(re.compile("/function/([^/]+)"), _call),
)
