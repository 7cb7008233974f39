"""Invoke: at once, as an event, or dry; and InvokeAsync, its elder.

What is wrong before a call is accepted is an exception of AWS's API; how an accepted call ends is
its answer, of a failure too: status 200 and `X-Amz-Function-Error`.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from contract.access import Scope
from contract.errors import Forbidden, InvalidInput, Unavailable, decode_error
from contract.function import Function, FunctionRef
from contract.job import IdempotencyClaim, JobSpec, Outcome
from contract.origin import NOWHERE, Origin
from contract.store.jobs import AlreadyAccepted
from contract.store.telemetry import LOG_LINES
from gateway.access import caller_of
from gateway.answer import JSON, Answer, Header, dumps
from gateway.aws.names import parse_name
from gateway.bodies import Payload, read_payload
from gateway.calls import Call, submit
from gateway.context import Gateway
from gateway.ended import Ended, call_to_end, join
from gateway.idempotency import claim_of
from gateway.job_answers import JOB_HEADER, value

TYPES = ("RequestResponse", "Event", "DryRun")
LOG_TYPES = ("None", "Tail")
REQUEST_ID = "x-amzn-RequestId"
# of the log that an answer has, as AWS has it
TAIL_BYTES = 4096
# a function's clock and ours may differ by this
_LOG_SLACK_S = 5.0
_INVOCATION = re.compile(r"[!-~]{1,100}")
_FIRST_ATTEMPT = re.compile(r"attempt=1\b")
# nobody waits for its answer: one that fails for good is kept
UNATTENDED = Origin(is_kept=True)


class Wish(NamedTuple):
    """An Invoke request: what its headers say."""

    kind: str
    has_tail: bool
    # `amz-sdk-invocation-id`, or "": the same for all attempts of one call
    invocation: str
    is_repeat: bool

    @classmethod
    def of(cls, environ: Mapping[str, Any]) -> Wish:
        """What the headers say; raises InvalidInput."""
        kind = _choice(environ, "X-Amz-Invocation-Type", TYPES)
        log_type = _choice(environ, "X-Amz-Log-Type", LOG_TYPES)
        invocation = environ.get("HTTP_AMZ_SDK_INVOCATION_ID", "")
        if invocation and not _INVOCATION.fullmatch(invocation):
            expected = "at most 100 printable characters"
            raise InvalidInput.of("amz-sdk-invocation-id", expected, repr(invocation[:100]))
        attempt = environ.get("HTTP_AMZ_SDK_REQUEST", "attempt=1")
        is_repeat = not _FIRST_ATTEMPT.search(attempt)
        return cls(kind, log_type == "Tail", invocation, is_repeat)


def invoke(
    gateway: Gateway, name: str, qualifier: str, environ: Mapping[str, Any], body: bytes
) -> Answer:
    """POST .../functions/<name>/invocations."""
    ref, wish = parse_name(name, qualifier), Wish.of(environ)
    if wish.kind == "DryRun":
        function = gateway.lookup.get(ref)
        _payload(gateway, function, body)
        return Answer(b"", 204, JSON, (("X-Amz-Executed-Version", str(function.version)),))
    if wish.has_tail:
        _check_may_read(gateway, environ)
    call, claim = _call(gateway, ref, environ, body, wish)
    if wish.kind == "Event":
        return _as_event(gateway, call, claim, wish.is_repeat)
    ended = _to_end(gateway, call, environ, claim, wish.is_repeat)
    if ended.outcome is None:
        # a client that asks again with the same id finds this very job
        raise Unavailable("The call was accepted and goes on; ask again for its answer.")
    return _answer(gateway, ended.spec, ended.outcome, wish.has_tail)


def invoke_async(gateway: Gateway, name: str, environ: Mapping[str, Any], body: bytes) -> Answer:
    """POST /2014-11-13/functions/<name>/invoke-async/: an event, without a word on it."""
    wish = Wish.of(environ)._replace(kind="Event")
    call, claim = _call(gateway, parse_name(name), environ, body, wish)
    answer = _as_event(gateway, call, claim, wish.is_repeat)
    return answer._replace(body=dumps({"Status": 202}))


def _call(
    gateway: Gateway, ref: FunctionRef, environ: Mapping[str, Any], body: bytes, wish: Wish
) -> tuple[Call, IdempotencyClaim | None]:
    claim = None
    if wish.invocation:
        # keys of `Idempotency-Key` hold no line break
        key = f"amz-sdk-invocation-id\n{wish.invocation}"
        claim = claim_of(caller_of(environ), key, ref, wish.kind, body)
    origin = UNATTENDED if wish.kind == "Event" else NOWHERE
    text = "" if claim is None else claim.text
    return Call(ref, lambda f: _payload(gateway, f, body), claim=text, origin=origin), claim


def _payload(gateway: Gateway, function: Function, body: bytes) -> Payload:
    """Events are JSON, whatever a client calls them; nothing is an empty object."""
    return read_payload(function.manifest, JSON, body or b"{}", gateway.settings.max_body_bytes)


def _to_end(
    gateway: Gateway,
    call: Call,
    environ: Mapping[str, Any],
    claim: IdempotencyClaim | None,
    is_repeat: bool,
) -> Ended:
    # first, so that a function that was deployed again does not judge an old request
    if claim is not None and is_repeat:
        job_id = gateway.store.jobs.accepted_as(claim)
        if job_id is not None:
            return join(gateway, job_id)
    try:
        return call_to_end(gateway, call, environ)
    except AlreadyAccepted as error:
        return join(gateway, error.job)


def _as_event(
    gateway: Gateway, call: Call, claim: IdempotencyClaim | None, is_repeat: bool
) -> Answer:
    job_id = gateway.store.jobs.accepted_as(claim) if claim is not None and is_repeat else None
    if job_id is None:
        try:
            job_id = submit(gateway, call).spec.id
        except AlreadyAccepted as error:
            job_id = error.job
    return Answer(b"", 202, JSON, _ids(job_id))


def _ids(job_id: str) -> tuple[Header, ...]:
    return ((REQUEST_ID, job_id), (JOB_HEADER, job_id))


def _answer(gateway: Gateway, spec: JobSpec, outcome: Outcome, has_tail: bool) -> Answer:
    headers = (*_ids(spec.id), ("X-Amz-Executed-Version", str(spec.version)))
    if has_tail:
        tail = base64.b64encode(_tail(gateway, spec, outcome)).decode()
        headers += (("X-Amz-Log-Result", tail),)
    if outcome.error is None:
        return Answer(dumps(value(outcome)), 200, JSON, headers)
    error = decode_error(outcome.error)
    body = {
        "errorMessage": error.detail,
        "errorType": type(error).__name__,
        "requestId": spec.id,
        "stackTrace": [],
    }
    return Answer(dumps(body), 200, JSON, (*headers, ("X-Amz-Function-Error", "Unhandled")))


def _check_may_read(gateway: Gateway, environ: Mapping[str, Any]) -> None:
    """Raise Forbidden unless the caller may read logs, which are for those who deploy."""
    caller = caller_of(environ)
    key = gateway.store.api_keys.get(caller) if caller else None
    if key is not None and not key.can(Scope.DEPLOY):
        text = f"X-Amz-Log-Type: Tail needs a key with the scope {Scope.DEPLOY}."
        raise Forbidden(text, key=key.id, scope=str(Scope.DEPLOY))


def _tail(gateway: Gateway, spec: JobSpec, outcome: Outcome) -> bytes:
    """What the function's own code said in this call, between the lines that AWS puts around it."""
    since_s = spec.accepted_at_s - _LOG_SLACK_S
    lines = gateway.store.telemetry.read_log(spec.function, LOG_LINES, since_s)
    own = [line.text for line in lines if line.job == spec.id]
    total_ms = outcome.timings_ms.get("total", 0.0)
    times = f"Duration: {total_ms:.2f} ms\tBilled Duration: {math.ceil(total_ms)} ms"
    before = f"START RequestId: {spec.id} Version: {spec.version}"
    after = f"END RequestId: {spec.id}\nREPORT RequestId: {spec.id}\t{times}\n"
    text = "\n".join((before, *own, after))
    return text.encode()[-TAIL_BYTES:]


def _choice(environ: Mapping[str, Any], header: str, choices: tuple[str, ...]) -> str:
    text: str = environ.get(f"HTTP_{header.upper().replace('-', '_')}", choices[0])
    if text not in choices:
        raise InvalidInput.of(header, " or ".join(choices), repr(text[:100]))
    return text
