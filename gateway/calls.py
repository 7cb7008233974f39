"""The one job path: every door of the gateway has its calls accepted, and waits for them, here.

A door (`gateway/doors.py`) says how its bodies become a payload and how an outcome becomes its
answer; what lies between is the same for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from contract.errors import DeadlineExceeded, RequestError, StoreUnavailable, Unavailable
from contract.function import Function, FunctionRef
from contract.job import Job, JobId, JobSpec, Outcome, Status, Submission, new_job_id
from contract.origin import NOWHERE, Origin
from contract.store.jobs import AlreadyAccepted, StaleVersion
from gateway.bodies import Payload
from gateway.connection import Connection, connection_of
from gateway.context import Gateway
from gateway.replies import Waiter
from gateway.trace_context import traced_origin

# How long after its deadline a job may still be settled by whoever runs it.
GRACE_S = 0.25
# A wait shorter than this is not worth looking whether the client is still there.
UNWATCHED_S = 0.5
# A function that is deployed again this often within one request is left alone.
MAX_RELOADS = 3

# From the version that a name means now to what its job carries; raises RequestError.
Read = Callable[[Function], Payload]


class Call(NamedTuple):
    """What a client asks for, whichever door it came through."""

    ref: FunctionRef
    read: Read
    priority: int = 0
    # `IdempotencyClaim.text`, or ""
    claim: str = ""
    # an end of patience before the function's own
    timeout_s: float | None = None
    origin: Origin = NOWHERE
    # of an alias with several versions, calls of one key go to the same
    sticky: str = ""


class Accepted(NamedTuple):
    """A call that became a job; its outcome is None while it goes on."""

    spec: JobSpec
    function: Function
    outcome: Outcome | None = None
    origin: Origin = NOWHERE

    @property
    def job(self) -> Job:
        """The record of a job that was just accepted."""
        return Job(self.spec, Status.QUEUED, 0, None, origin=self.origin)


def submit(gateway: Gateway, call: Call, job_id: JobId | None = None, waiter: str = "") -> Accepted:
    """Have a call accepted for the version that its name means at that moment.

    Raises what `call.read` raises, UnknownFunction, UnknownAlias, QueueFull, WaitTooLong,
    Unavailable, StoreUnavailable; AlreadyAccepted where the claim of an idempotency key stands for
    a job.
    """
    ref = call.ref
    job_id = job_id or new_job_id()
    origin = traced_origin(call.origin)
    if origin.alias != ref.alias:
        origin = replace(origin, alias=ref.alias)
    for _ in range(MAX_RELOADS):
        function = gateway.lookup.get(ref, call.sticky)
        try:
            payload = call.read(function)
        except RequestError:
            if gateway.lookup.is_current(function, ref):
                raise
            continue
        spec = _spec(function, call, job_id, payload)
        refusal = gateway.commit.submit(
            Submission(spec, payload.data, ref.is_latest, waiter, call.claim, origin)
        )
        if refusal is None:
            return Accepted(spec, function, origin=origin)
        if isinstance(refusal, AlreadyAccepted):
            raise refusal
        gateway.lookup.forget(ref)
        if not isinstance(refusal, StaleVersion):
            raise type(refusal)(refusal.detail, function=str(ref), **refusal.extensions)
    raise Unavailable(f"The function {ref} is being deployed again and again; try later.")


def run(
    gateway: Gateway,
    call: Call,
    environ: Mapping[str, Any] | None = None,
    wait_s: float | None = None,
) -> Accepted:
    """Have a call accepted and wait: until it ends, its deadline, or for `wait_s` if given.

    Without `wait_s` a client that hangs up (its connection is in `environ`) cancels a job that is
    still queued. Where too many wait in this process already nobody else does: no outcome.
    """
    if gateway.replies.is_full:
        return submit(gateway, call)
    job_id = new_job_id()
    is_poll = wait_s is not None
    with gateway.replies.expect(job_id, is_poll) as waiter:
        accepted = submit(gateway, call, job_id, gateway.replies.gateway_id)
        patience_s = gateway.settings.max_wait_s if wait_s is None else wait_s
        until_deadline_s = accepted.spec.deadline_s + GRACE_S - time.time()
        # whoever names a time may have left on purpose; duplicates may wait for the same job
        watched = None if is_poll or call.claim or environ is None else connection_of(environ)
        outcome = _wait(gateway, waiter, min(patience_s, until_deadline_s), watched)
    return accepted._replace(outcome=outcome)


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


class Unanswered(NamedTuple):
    """What the record says of a job of which no reply came; exactly one of the two is set."""

    job: Job | None = None
    error: StoreUnavailable | DeadlineExceeded | None = None


def look_up(gateway: Gateway, spec: JobSpec) -> Unanswered:
    """No reply came: it may have been lost with its connection, but the record is the truth."""
    try:
        job = gateway.store.jobs.get(spec.id)
    except StoreUnavailable:
        detail = "The job was accepted, but the job store does not answer now."
        return Unanswered(error=StoreUnavailable(detail))
    if job.outcome is None and time.time() >= spec.deadline_s:
        return Unanswered(error=DeadlineExceeded())
    return Unanswered(job)


def _spec(function: Function, call: Call, job_id: JobId, payload: Payload) -> JobSpec:
    manifest = function.manifest
    timeout_s = manifest.timeout_ms / 1000
    if call.timeout_s is not None:
        timeout_s = min(timeout_s, call.timeout_s)
    now_s = time.time()
    deadline_s = now_s + timeout_s
    slo_s = timeout_s if manifest.slo_ms is None else manifest.slo_ms / 1000
    return JobSpec(
        job_id,
        function.name,
        function.version,
        payload.rows,
        now_s,
        min(now_s + slo_s, deadline_s),
        deadline_s,
        payload.type,
        call.priority,
    )
