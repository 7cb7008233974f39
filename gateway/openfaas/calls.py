"""Calls by the routes of OpenFaaS: the body goes in, what the function returned comes out."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from contract.errors import FunctionFailed, FuseboxError, RequestError, decode_error
from contract.function import Function, FunctionRef
from contract.job import JobId, Outcome, new_job_id
from contract.origin import Origin
from gateway.answer import JSON, Answer, Header, dumps
from gateway.bodies import Payload, read_payload
from gateway.calls import Call, submit
from gateway.context import Gateway
from gateway.ended import call_to_end
from gateway.job_answers import JOB_HEADER, value
from gateway.openfaas.names import parse_name

TEXT = "text/plain; charset=utf-8"
# what clients send where their user named no type: curl's own, faas-cli's own
_UNSAID = frozenset({"", "application/x-www-form-urlencoded", "text/plain"})
_CALL_ID = re.compile(r"[!-~]{1,128}")
# what `Origin.cause` says of a call that brought an id of its own
CAUSE = "openfaas:"


class Asked(NamedTuple):
    """A request to call a function."""

    ref: FunctionRef
    body: bytes
    content_type: str
    # X-Call-Id as it came, or ""
    call_id: str
    began_at_s: float

    @classmethod
    def of(cls, name: str, environ: Mapping[str, Any], body: bytes) -> Asked:
        """What a request says; raises RequestError and UnknownFunction."""
        call_id = environ.get("HTTP_X_CALL_ID", "")
        if call_id and not _CALL_ID.fullmatch(call_id):
            raise RequestError(
                "X-Call-Id: expected at most 128 printable characters without spaces, "
                f"got {call_id[:100]!r}"
            )
        content_type = environ.get("CONTENT_TYPE", "")
        return cls(parse_name(name), body, content_type, call_id, time.time())

    @property
    def cause(self) -> str:
        """How the job remembers the id that its caller knows it by."""
        return f"{CAUSE}{self.call_id}" if self.call_id else ""

    def read(self, gateway: Gateway, function: Function) -> Payload:
        """The body as the function takes it."""
        media = _said(self.content_type, self.body, function)
        return read_payload(function.manifest, media, self.body, gateway.settings.max_body_bytes)

    def headers(self, job_id: JobId) -> tuple[Header, ...]:
        """What every answer to it has: without an id of its own, the job's is the call's."""
        return (
            ("X-Call-Id", self.call_id or job_id),
            ("X-Start-Time", str(int(self.began_at_s * 1e9))),
            (JOB_HEADER, job_id),
        )


def _said(content_type: str, body: bytes, function: Function) -> str:
    """The type of a body, where nobody said one by what it looks like."""
    if content_type.partition(";")[0].strip().lower() not in _UNSAID:
        return content_type
    if not function.manifest.has_preprocess:
        # tensors come as JSON
        return JSON
    if body[:1] not in (b"{", b"["):
        return content_type
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return content_type
    return JSON


def call(gateway: Gateway, name: str, environ: Mapping[str, Any], body: bytes) -> Answer:
    """ANY /function/<name>: the function's answer, or its failure as text."""
    asked = Asked.of(name, environ, body)
    wish = Call(asked.ref, lambda f: asked.read(gateway, f), origin=Origin(cause=asked.cause))
    ended = call_to_end(gateway, wish, environ)
    headers = asked.headers(ended.spec.id)
    if ended.outcome is None:
        location = ("Location", f"/v1/jobs/{ended.spec.id}")
        return Answer(b"", 202, TEXT, (*headers, location))
    taken_s = ("X-Duration-Seconds", f"{time.time() - asked.began_at_s:.6f}")
    answer = answered(ended.outcome)
    return answer._replace(headers=answer.headers + headers + (taken_s,))


def call_async(
    gateway: Gateway, name: str, environ: Mapping[str, Any], body: bytes, callback: tuple[str, ...]
) -> Answer:
    """POST /async-function/<name>: 202 once it is durable; `callback` hears of its end."""
    asked = Asked.of(name, environ, body)
    origin = Origin(cause=asked.cause, on_success=callback, on_failure=callback, is_kept=True)
    job_id = new_job_id()
    submit(gateway, Call(asked.ref, lambda f: asked.read(gateway, f), origin=origin), job_id)
    return Answer(b"", 202, TEXT, asked.headers(job_id))


def answered(outcome: Outcome) -> Answer:
    """What a function came to: text as it is, everything else as JSON."""
    if outcome.error is not None:
        return failed(decode_error(outcome.error))
    found = value(outcome)
    if isinstance(found, str):
        return Answer(found.encode(), 200, TEXT)
    return Answer(dumps(found), 200, JSON)


def failed(error: FuseboxError) -> Answer:
    """An error as text; those that are not the function's own are marked as the platform's."""
    is_own = isinstance(error, FunctionFailed)
    headers: tuple[Header, ...] = () if is_own else (("X-OpenFaaS-Internal", "gateway"),)
    return Answer(error.detail.encode(), error.http_status, TEXT, headers)
