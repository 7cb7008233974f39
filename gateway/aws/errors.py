"""Errors as AWS's clients read them: a type in a header, a message in one of two spellings."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, NamedTuple

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from contract.errors import (
    DeadlineExceeded,
    Forbidden,
    FuseboxError,
    IdempotencyKeyReused,
    InvalidInput,
    MalformedBody,
    NotFound,
    PayloadTooLarge,
    QueueFull,
    RateLimited,
    RequestError,
    RequestTimeout,
    Unauthorized,
    Unavailable,
    UnknownFunction,
    UnsupportedMediaType,
    WaitTooLong,
)
from contract.log import Log
from gateway.answer import Answer, Header, json_answer
from gateway.aws.names import arn_of
from gateway.problems import RETRY_AFTER_MS

log = Log("gateway")
# of an invocation, as AWS has it; what is signed is in memory before it is known whose it is
MAX_PAYLOAD_BYTES = 6_291_456
# these spell their message with a capital
_CAPITAL = frozenset(
    {"ResourceNotFoundException", "ServiceException", "ResourceInUseException"}
)  # fmt: skip
_FUNCTION_LIMIT = "ReservedFunctionConcurrentInvocationLimitExceeded"
_CALLER_LIMIT = "CallerRateLimitExceeded"


class AwsError(Exception):
    """An error of AWS's API that the platform's own tree has no equal of."""

    def __init__(self, kind: str, status: int, text: str) -> None:
        super().__init__(text)
        self.kind, self.status, self.text = kind, status, text


def invalid(field: str, expected: str, actual: str) -> AwsError:
    """InvalidParameterValueException: name the field, what was expected of it and what came."""
    text = f"{field}: expected {expected}, got {actual}"
    return AwsError("InvalidParameterValueException", 400, text)


class _Shape(NamedTuple):
    kind: str
    status: int


# the first class that an error is of
_SHAPES: tuple[tuple[type[FuseboxError], _Shape], ...] = (
    (UnknownFunction, _Shape("ResourceNotFoundException", 404)),
    (NotFound, _Shape("ResourceNotFoundException", 404)),
    (MalformedBody, _Shape("InvalidRequestContentException", 400)),
    (RequestTimeout, _Shape("RequestTimeoutException", 408)),
    (PayloadTooLarge, _Shape("RequestTooLargeException", 413)),
    (UnsupportedMediaType, _Shape("UnsupportedMediaTypeException", 415)),
    (IdempotencyKeyReused, _Shape("ResourceConflictException", 409)),
    (InvalidInput, _Shape("InvalidRequestContentException", 400)),
    (RequestError, _Shape("InvalidParameterValueException", 400)),
    (Unauthorized, _Shape("UnrecognizedClientException", 403)),
    (Forbidden, _Shape("AccessDeniedException", 403)),
    (QueueFull, _Shape("TooManyRequestsException", 429)),
    (RateLimited, _Shape("TooManyRequestsException", 429)),
    (WaitTooLong, _Shape("TooManyRequestsException", 429)),
    (Unavailable, _Shape("ServiceException", 503)),
    (DeadlineExceeded, _Shape("ServiceException", 504)),
)


def translate(error: Exception, path: str) -> Answer:
    """Any exception in AWS's shape; unknown ones are logged and stay inside."""
    if isinstance(error, AwsError):
        return shaped(error.kind, error.status, error.text)
    if isinstance(error, RequestEntityTooLarge):
        error = PayloadTooLarge()
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, FuseboxError):
        for kind, shape in _SHAPES:
            if isinstance(error, kind):
                return _of_tree(error, shape)
        if error.code != FuseboxError.code and error.http_status < 500:
            return shaped("ResourceConflictException", 409, error.detail)
    log.exception("request_failed", path=path)
    return shaped("ServiceException", 500, str(FuseboxError.__doc__))


def shaped(
    kind: str, status: int, text: str, headers: tuple[Header, ...] = (), **more: Any
) -> Answer:
    """One error as it goes out."""
    member = "Message" if kind in _CAPITAL else "message"
    body = {"Type": "User" if status < 500 else "Service", member: text, **more}
    return json_answer(body, status, (("x-amzn-ErrorType", kind), *headers))


def _of_tree(error: FuseboxError, shape: _Shape) -> Answer:
    kind, status = error.extensions.get("aws", shape.kind), shape.status
    if isinstance(error, UnknownFunction) and "function" in error.extensions:
        name, _, qualifier = str(error.extensions["function"]).partition("@")
        return shaped(kind, status, f"Function not found: {arn_of(name, qualifier)}")
    if status not in (429, 503):
        return shaped(kind, status, error.detail)
    retry_after_ms = error.extensions.get("retry_after_ms", RETRY_AFTER_MS)
    headers = (("Retry-After", str(math.ceil(retry_after_ms / 1000))),)
    if status == 503:
        return shaped(kind, status, error.detail, headers)
    reason = _CALLER_LIMIT if isinstance(error, RateLimited) else _FUNCTION_LIMIT
    return shaped(kind, status, f"Rate Exceeded. {error.detail}", headers, Reason=reason)


def _of_http(error: HTTPException) -> Answer:
    status = HTTPStatus(error.code or 500)
    headers = tuple(
        (name, value)
        for name, value in error.get_headers()
        if name.lower() not in ("content-type", "content-length")
    )
    kind = "UnknownOperationException" if status < 500 else "ServiceException"
    return shaped(kind, status.value, error.description or status.phrase, headers)
