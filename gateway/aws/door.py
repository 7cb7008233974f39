"""The door of the AWS Lambda API: its routes, its scopes, its description."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from werkzeug.wrappers import Request

from contract.access import Scope
from gateway.answer import JSON, Answer
from gateway.aws.credentials import credential
from gateway.aws.errors import translate
from gateway.aws.invoke import LOG_TYPES, REQUEST_ID, TYPES
from gateway.aws.names import MAX_NAME
from gateway.aws.operations import INVOKE, OPERATIONS, Asked, Operation
from gateway.context import Gateway
from gateway.door import Door, HotPath, respond
from gateway.openapi_parts import ANY, Record, header, query
from gateway.openapi_parts import operation as described

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

NAME = "lambda"
# dates of the API's editions: /2015-03-31/
PREFIXES = tuple(sorted({f"/{operation.path.split('/')[1]}/" for operation in OPERATIONS}))
_ERRORS = {
    "400": "InvalidParameterValueException, InvalidRequestContentException.",
    "403": "UnrecognizedClientException, InvalidSignatureException, "
    "IncompleteSignatureException, AccessDeniedException.",
    "404": "ResourceNotFoundException, UnknownOperationException.",
    "408": "RequestTimeoutException.",
    "409": "ResourceConflictException.",
    "412": "PreconditionFailedException.",
    "413": "RequestTooLargeException.",
    "429": "TooManyRequestsException, with Retry-After.",
    "500": "ServiceException.",
    "503": "ServiceException, with Retry-After.",
}
_ERROR: Record = {
    "type": "object",
    "properties": {
        "Type": {"type": "string", "enum": ["User", "Service"]},
        "Message": {"type": "string"},
        "message": {"type": "string"},
        "Reason": {"type": "string"},
    },
    "required": ["Type"],
}
_INVOKE_HEADERS = (
    header("X-Amz-Invocation-Type", "`Event` does not wait, `DryRun` runs nothing.",
           schema={"type": "string", "enum": list(TYPES)}),
    header("X-Amz-Log-Type", "`Tail` adds the end of the call's log.",
           schema={"type": "string", "enum": list(LOG_TYPES)}),
    header("amz-sdk-invocation-id", "Attempts under one id are one job.",
           schema={"type": "string", "pattern": "^[!-~]{1,100}$"}),
)  # fmt: skip
_PARTS = {
    "name": "A name, NAME:QUALIFIER, a partial or a whole ARN.",
    "alias": "The alias.",
    "uuid": "The mapping.",
}


def _route(app: Flask, gateway: Gateway) -> None:
    for operation in OPERATIONS:
        app.add_url_rule(
            operation.path.replace("{", "<").replace("}", ">"),
            f"{NAME}_{operation.name}",
            _view(gateway, operation),
            methods=[operation.method],
            # elder clients end some of these paths with a slash
            strict_slashes=False,
        )


def _view(gateway: Gateway, operation: Operation) -> Callable[..., Response]:
    def answer(**parts: str) -> Response:
        asked = Asked(parts, request.args, request.environ)
        response = respond(operation.answer(gateway, asked))
        response.headers.setdefault(REQUEST_ID, str(uuid.uuid4()))
        return response

    return answer


def _invoke(gateway: Gateway, environ: WSGIEnvironment, name: str) -> Answer:
    query = Request(environ).args if environ.get("QUERY_STRING") else {}
    answer = INVOKE.answer(gateway, Asked({"name": name}, query, environ))
    if any(header == REQUEST_ID for header, _ in answer.headers):
        return answer
    return answer._replace(headers=(*answer.headers, (REQUEST_ID, str(uuid.uuid4()))))


def _scope(method: str, path: str) -> Scope | None:
    for operation, pattern in _PATTERNS:
        if operation.method == method and pattern.fullmatch(path):
            return operation.scope
    return None if method in ("GET", "HEAD", "OPTIONS") else Scope.DEPLOY


_PATTERNS = [
    (operation, re.compile(re.sub(r"\{\w+\}", "[^/]+", operation.path) + "/?"))
    for operation in OPERATIONS
]


def _describe() -> Record:
    paths: Record = {}
    for operation in OPERATIONS:
        item = paths.setdefault(operation.path, {})
        names = re.findall(r"\{(\w+)\}", operation.path)
        if names:
            item["parameters"] = [_part(name) for name in names]
        item[operation.method.lower()] = _described(operation)
    return paths


def _part(name: str) -> Record:
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": _PARTS[name],
        "schema": schema,
    }


def _described(operation: Operation) -> Record:
    responses: Record = {
        status: {"description": text, "content": {JSON: {"schema": _ERROR}}}
        for status, text in _ERRORS.items()
    }
    done: Record = {"description": "As AWS answers it."}
    if operation.status != 204:
        done["content"] = {JSON: ANY}
    responses[str(operation.status)] = done
    parameters = [query(name, f"As AWS has it: {name}.", type="string") for name in operation.query]
    if operation.name == "Invoke":
        responses["202"] = {"description": "Accepted as an event."}
        responses["204"] = {"description": "It could be called."}
        parameters += _INVOKE_HEADERS
    more: Record = {"parameters": parameters} if parameters else {}
    if operation.has_body:
        more["requestBody"] = {"content": {JSON: ANY}}
    return described(
        f"{NAME}_{operation.name}",
        NAME,
        f"{operation.name}: {operation.summary}",
        dict(sorted(responses.items())),
        **more,
    )


AWS = Door(
    NAME,
    "The AWS Lambda API, for boto3 and other AWS clients.",
    PREFIXES,
    _route,
    translate,
    _scope,
    _describe,
    credential,
    hot=HotPath(re.compile(f"{INVOKE.path.replace('{name}', '([^/]+)')}/?"), _invoke),
)
