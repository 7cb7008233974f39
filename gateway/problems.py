"""Errors as RFC 9457 problem documents: the one place that translates them."""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from contract.errors import (
    FuseboxError,
    PayloadTooLarge,
    QueueFull,
    RateLimited,
    Unavailable,
    WaitTooLong,
)
from contract.log import Log
from gateway.answer import Answer, Header

log = Log("gateway")
PROBLEM = "application/problem+json"
# Where no better is known: a store returns within about a second, or not soon.
RETRY_AFTER_MS = 1_000


def problem(error: FuseboxError, instance: str, **extensions: Any) -> Answer:
    """The problem document of an error of the tree."""
    members = {**error.extensions, **extensions}
    headers: tuple[Header, ...] = ()
    if isinstance(error, QueueFull | RateLimited | WaitTooLong | Unavailable):
        retry_after_ms = members.setdefault("retry_after_ms", RETRY_AFTER_MS)
        headers = (("Retry-After", str(math.ceil(retry_after_ms / 1000))),)
    title = str(type(error).__doc__)
    return _document(error.http_status, error.code, title, error.detail, instance, members, headers)


def translate(error: Exception, instance: str) -> Answer:
    """The problem document of any exception; unknown ones are logged and stay inside."""
    if isinstance(error, RequestEntityTooLarge):
        return problem(PayloadTooLarge(), instance)
    if isinstance(error, HTTPException):
        return _of_http(error, instance)
    # `internal` is what nobody foresaw, whichever class it has
    if isinstance(error, FuseboxError) and error.code != FuseboxError.code:
        return problem(error, instance)
    log.exception("request_failed", path=instance)
    return problem(FuseboxError(), instance)


def _of_http(error: HTTPException, instance: str) -> Answer:
    status = HTTPStatus(error.code or 500)
    code = re.sub(r"[^a-z]+", "_", status.phrase.lower())
    headers = tuple(
        (name, value)
        for name, value in error.get_headers()
        if name.lower() not in ("content-type", "content-length")
    )
    detail = error.description or status.phrase
    return _document(status.value, code, status.phrase, detail, instance, {}, headers)


def _document(
    status: int,
    code: str,
    title: str,
    detail: str,
    instance: str,
    members: dict[str, Any],
    headers: tuple[Header, ...],
) -> Answer:
    document = {
        **members,
        "type": f"/docs#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        # a URI reference, whatever the path was made of
        "instance": quote(instance),
        "code": code,
    }
    # members of a stored error may be anything msgpack holds
    body = orjson.dumps(document, default=repr, option=orjson.OPT_NON_STR_KEYS)
    return Answer(body, status, PROBLEM, headers)
