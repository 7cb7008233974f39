"""Errors as V2's clients read them: `{"error": "..."}`, of exactly this media type."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from werkzeug.exceptions import HTTPException

from contract.errors import InvalidInput, NotAcceptable, UnknownFunction
from contract.function import FunctionRef
from gateway.answer import JSON, Answer, dumps
from gateway.problems import translate as as_problem
from gateway.v2.models import unknown

# the protocol has 400 for all that is wrong with a request's content
_PLAIN_400 = (InvalidInput, NotAcceptable)


def translate(error: Exception, path: str) -> Answer:
    """Any exception; unknown ones are logged and stay inside."""
    problem = as_problem(error, path)
    status = 400 if isinstance(error, _PLAIN_400) else problem.status
    if isinstance(error, HTTPException):
        text = HTTPStatus(problem.status).phrase
    elif isinstance(error, UnknownFunction) and "function" in error.extensions:
        ref = FunctionRef.parse(error.extensions["function"])
        text = unknown(ref.name, str(ref.version) if ref.version else None)
    else:
        text = orjson.loads(problem.body)["detail"]
    return Answer(dumps({"error": text}), status, JSON, problem.headers)
