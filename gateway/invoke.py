"""Invocations by the platform's own API: a body becomes a call, and its outcome the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.function import Function, FunctionRef
from contract.job import JobSpec
from gateway import job_answers as answers
from gateway.answer import Answer
from gateway.bodies import Payload, read_payload
from gateway.calls import Call, look_up, run, submit
from gateway.context import Gateway
from gateway.delivery.headers import origin_of
from gateway.preferences import (
    NO_PREFERENCE,
    Prefer,
    negotiate,
    offers,
    parse_prefer,
    parse_priority,
    parse_sticky,
)


def invoke(
    gateway: Gateway, name: str, environ: Mapping[str, Any], body: bytes, claim: str = ""
) -> Answer:
    """POST /v1/functions/<name>/invoke: accept a job and, unless told otherwise, wait for it.

    Raises AlreadyAccepted where the claim of an idempotency key stands for a job.
    """
    accept, content_type = environ.get("HTTP_ACCEPT", ""), environ.get("CONTENT_TYPE", "")

    def read(function: Function) -> Payload:
        # what cannot be answered is not run
        negotiate(accept, offers(function.manifest))
        max_bytes = gateway.settings.max_body_bytes
        return read_payload(function.manifest, content_type, body, max_bytes)

    priority = parse_priority(environ.get("HTTP_FUSEBOX_PRIORITY", "0"))
    sticky = parse_sticky(environ.get("HTTP_FUSEBOX_STICKY", ""))
    header = environ.get("HTTP_PREFER")
    prefer = parse_prefer(header, gateway.settings.max_wait_s) if header else NO_PREFERENCE
    origin = origin_of(environ, is_kept=prefer.is_async and prefer.wait_s is None)
    call = Call(FunctionRef.parse(name), read, priority, claim, origin=origin, sticky=sticky)
    waits = not prefer.is_async or prefer.wait_s is not None
    waits = waits and not gateway.replies.is_full
    wait_s = _wait_s(gateway, prefer)
    accepted = run(gateway, call, environ, wait_s) if waits else submit(gateway, call)
    media = negotiate(accept, offers(accepted.function.manifest))
    if not waits:
        return answers.accepted(accepted.job, media, prefer)
    if accepted.outcome is not None:
        return answers.settled(accepted.spec, accepted.outcome, media, prefer)
    return unanswered(gateway, accepted.spec, media, prefer)


def _wait_s(gateway: Gateway, prefer: Prefer) -> float | None:
    """How long a client says that it waits; None where it does not say."""
    if not prefer.is_given:
        return None
    return gateway.settings.max_wait_s if prefer.wait_s is None else prefer.wait_s


def unanswered(gateway: Gateway, spec: JobSpec, media: str, prefer: Prefer) -> Answer:
    """The answer where no reply came."""
    job, error = look_up(gateway, spec)
    if error is not None:
        return answers.failed(spec, error, {})
    assert job is not None
    if job.outcome is not None:
        return answers.settled(spec, job.outcome, media, prefer)
    return answers.accepted(job, media, prefer)
