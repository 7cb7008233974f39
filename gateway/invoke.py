"""Invocations: a body becomes an accepted job, and its reply the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from contract.errors import DeadlineExceeded, RequestError, StoreUnavailable, Unavailable
from contract.function import Function, FunctionRef
from contract.job import Job, JobId, JobSpec, Outcome, Status, Submission, new_job_id
from contract.store.jobs import AlreadyAccepted, StaleVersion
from gateway import job_answers as answers
from gateway.answer import Answer
from gateway.bodies import read_payload
from gateway.connection import Connection, connection_of
from gateway.context import Gateway
from gateway.preferences import (
    NO_PREFERENCE,
    Prefer,
    negotiate,
    offers,
    parse_prefer,
    parse_priority,
)
from gateway.replies import Waiter

# How long after its deadline a job may still be settled by whoever runs it.
GRACE_S = 0.25
# A wait shorter than this is not worth looking whether the client is still there.
UNWATCHED_S = 0.5
# A function that is deployed again this often within one request is left alone.
MAX_RELOADS = 3


class _Request(NamedTuple):
    """What a client sent."""

    ref: FunctionRef
    accept: str
    content_type: str
    body: bytes
    claim: str
    priority: int = 0


class _Prepared(NamedTuple):
    """A request that fits a version of the function: the job, and the type of its answer."""

    spec: JobSpec
    payload: bytes
    media: str


def invoke(
    gateway: Gateway, name: str, environ: Mapping[str, Any], body: bytes, claim: str = ""
) -> Answer:
    """POST /v1/functions/<name>/invoke: accept a job and, unless told otherwise, wait for it.

    Where too many wait in this process already, nobody else does. Raises AlreadyAccepted where
    the claim of an idempotency key stands for a job.
    """
    accept, content_type = environ.get("HTTP_ACCEPT", ""), environ.get("CONTENT_TYPE", "")
    priority = parse_priority(environ.get("HTTP_FUSEBOX_PRIORITY", "0"))
    request = _Request(FunctionRef.parse(name), accept, content_type, body, claim, priority)
    header = environ.get("HTTP_PREFER")
    prefer = parse_prefer(header, gateway.settings.max_wait_s) if header else NO_PREFERENCE
    job_id = new_job_id()
    if (prefer.is_async and prefer.wait_s is None) or gateway.replies.is_full:
        spec, _, media = _submit(gateway, request, job_id, "")
        return answers.accepted(Job(spec, Status.QUEUED, 0, None), media, prefer)
    with gateway.replies.expect(job_id, prefer.is_given) as waiter:
        spec, _, media = _submit(gateway, request, job_id, gateway.replies.gateway_id)
        until_deadline_s = spec.deadline_s + GRACE_S - time.time()
        wait_s = gateway.settings.max_wait_s if prefer.wait_s is None else prefer.wait_s
        # whoever prefers not to wait may have left on purpose; duplicates may wait for the same job
        connection = None if prefer.is_given or claim else connection_of(environ)
        outcome = _wait(gateway, waiter, min(wait_s, until_deadline_s), connection)
    if outcome is not None:
        return answers.settled(spec, outcome, media, prefer)
    return unanswered(gateway, spec, media, prefer)


def _wait(
    gateway: Gateway, waiter: Waiter, wait_s: float, connection: Connection | None
) -> Outcome | None:
    """The outcome, or None; a client that hangs up meanwhile cancels its job while it is queued."""
    outcome = waiter.wait(wait_s if connection is None else min(wait_s, UNWATCHED_S))
    if outcome is not None or connection is None or wait_s <= UNWATCHED_S or waiter.is_let_go:
        return outcome
    has_hung_up = False

    def let_go() -> None:
        nonlocal has_hung_up
        has_hung_up = True
        waiter.wake(None)

    with connection.watch(let_go):
        outcome = waiter.wait(wait_s - UNWATCHED_S)
    if has_hung_up and outcome is None:
        gateway.store.jobs.abandon(waiter.job)
    return outcome


def unanswered(gateway: Gateway, spec: JobSpec, media: str, prefer: Prefer) -> Answer:
    """No reply came: it may have been lost with its connection, but the record is the truth."""
    try:
        job = gateway.store.jobs.get(spec.id)
    except StoreUnavailable:
        error = StoreUnavailable("The job was accepted, but the job store does not answer now.")
        return answers.failed(spec, error, {})
    if job.outcome is not None:
        return answers.settled(spec, job.outcome, media, prefer)
    if time.time() >= spec.deadline_s:
        return answers.failed(spec, DeadlineExceeded(), {})
    return answers.accepted(job, media, prefer)


def _submit(gateway: Gateway, request: _Request, job_id: JobId, waiter: str) -> _Prepared:
    """Have the job accepted for the version that the name means at that moment."""
    ref = request.ref
    for _ in range(MAX_RELOADS):
        function = gateway.lookup.get(ref)
        try:
            prepared = _prepare(gateway, function, request, job_id)
        except RequestError:
            if gateway.lookup.is_current(function, ref):
                raise
            continue
        submission = Submission(
            prepared.spec, prepared.payload, ref.version == 0, waiter, request.claim
        )
        refusal = gateway.commit.submit(submission)
        if refusal is None:
            return prepared
        if isinstance(refusal, AlreadyAccepted):
            raise refusal
        gateway.lookup.forget(ref)
        if not isinstance(refusal, StaleVersion):
            raise type(refusal)(refusal.detail, function=str(ref), **refusal.extensions)
    raise Unavailable(f"The function {ref} is being deployed again and again; try later.")


def _prepare(gateway: Gateway, function: Function, request: _Request, job_id: JobId) -> _Prepared:
    manifest = function.manifest
    media = negotiate(request.accept, offers(manifest))
    payload = read_payload(
        manifest, request.content_type, request.body, gateway.settings.max_body_bytes
    )
    now_s = time.time()
    deadline_s = now_s + manifest.timeout_ms / 1000
    due_at_s = deadline_s if manifest.slo_ms is None else now_s + manifest.slo_ms / 1000
    spec = JobSpec(
        job_id,
        function.name,
        function.version,
        payload.rows,
        now_s,
        due_at_s,
        deadline_s,
        payload.type,
        request.priority,
    )
    return _Prepared(spec, payload.data, media)
