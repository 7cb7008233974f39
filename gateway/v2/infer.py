"""Inference: a request becomes a call, and the outcome of its job the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from contract.errors import FuseboxError, RequestError, Unavailable, decode_error
from contract.function import Function, FunctionRef
from contract.job import MAX_PRIORITY, Outcome
from gateway.answer import Answer
from gateway.bodies import Payload
from gateway.calls import Accepted, Call, look_up, run
from gateway.context import Gateway
from gateway.job_answers import JOB_HEADER
from gateway.request_body import read_body
from gateway.v2.encodings import inflated
from gateway.v2.errors import translate
from gateway.v2.payloads import payload_of
from gateway.v2.request import InferRequest, Record, parse
from gateway.v2.response import Asked, respond

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# what Triton's own clients can say, 64 bits
_MOST = 2**64


def infer(gateway: Gateway, ref: FunctionRef, environ: WSGIEnvironment) -> Answer:
    """Run one request and wait for its end; raises where it is not accepted."""
    max_bytes = gateway.settings.max_body_bytes
    body = read_body(environ, max_bytes)
    encoding = environ.get("HTTP_CONTENT_ENCODING")
    if encoding:
        body = inflated(encoding, body, max_bytes)
    request = parse(body, environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH"))
    plain = request if isinstance(request, InferRequest) else None

    def read(function: Function) -> Payload:
        return payload_of(function, request, max_bytes)

    parameters: Record = plain.parameters if plain else {}
    call = Call(ref, read, _priority(parameters), timeout_s=_timeout_s(parameters))
    if gateway.replies.is_full:
        # this protocol has no answer for a job that goes on
        raise Unavailable("Too many requests wait for their answers here; try again later.")
    accepted = run(gateway, call, environ)
    ended = _end(gateway, accepted)
    if isinstance(ended, FuseboxError):
        answer = translate(ended, environ["PATH_INFO"])
    else:
        asked = Asked.by(plain, environ.get("HTTP_ACCEPT_ENCODING", ""))
        answer = respond(accepted.function, ended, asked)
    return answer._replace(headers=(*answer.headers, (JOB_HEADER, accepted.spec.id)))


def _end(gateway: Gateway, accepted: Accepted) -> Outcome | FuseboxError:
    """The outcome of the job, or why there is none."""
    outcome = accepted.outcome
    if outcome is None:
        job, error = look_up(gateway, accepted.spec)
        if error is not None:
            return error
        assert job is not None
        outcome = job.outcome
    if outcome is None:
        return Unavailable(
            f"The request goes on as job {accepted.spec.id} and cannot be waited for here; "
            f"GET /v1/jobs/{accepted.spec.id} has its end."
        )
    return outcome if outcome.error is None else decode_error(outcome.error)


def _priority(parameters: Record) -> int:
    """0 is the model's own, 1 the highest: the platform's levels count the other way round."""
    given = _whole("priority", parameters)
    return max(0, MAX_PRIORITY + 1 - given) if given else 0


def _timeout_s(parameters: Record) -> float | None:
    """Given in microseconds; 0 is none."""
    given = _whole("timeout", parameters)
    return given / 1e6 if given else None


def _whole(name: str, parameters: Mapping[str, object]) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value < _MOST:
        raise RequestError(f"parameter {name}: expected a whole number from 0, got {value!r:.100}")
    return value
