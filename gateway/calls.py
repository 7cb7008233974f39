"""The one job path: every door of the gateway has its calls accepted, and waits for them, here.

A door (`gateway/doors.py`) says how its bodies become a payload and how an outcome becomes its
answer; what lies between is the same for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from contract.errors import (
    DeadlineExceeded,
    FuseboxError,
    RequestError,
    StoreUnavailable,
    Unavailable,
)
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
    origin = _origin_of(call)
    for _ in range(MAX_RELOADS):
        function = gateway.lookup.get(ref, call.sticky)
        try:
            payload = call.read(function)
        except RequestError:
            if gateway.lookup.is_current(function, ref):
                raise
            continue
        spec = _spec(function, call, job_id, payload)
        told = _told(function, origin)
        refusal = gateway.commit.submit(
            Submission(spec, payload.data, ref.is_latest, waiter, call.claim, told)
        )
        if refusal is None:
            return Accepted(spec, function, origin=told)
        if isinstance(refusal, AlreadyAccepted):
            raise refusal
        gateway.lookup.forget(ref)
        if not isinstance(refusal, StaleVersion):
            raise type(refusal)(refusal.detail, function=str(ref), **refusal.extensions)
    raise Unavailable(f"The function {ref} is being deployed again and again; try later.")


class NotSubmitted(Unavailable):
    """Another call of the same batch could not be read."""


Result = Accepted | FuseboxError


def submit_all(
    gateway: Gateway, calls: Sequence[Call], is_whole: bool = False, rows: Sequence[str] = ()
) -> list[Result]:
    """Have calls accepted together; per call what it became, or why not, as `submit` raises it.

    A call that cannot be read keeps others from being submitted: all with `is_whole`, those behind
    it in its row where `rows` names the row of each ("": none). What the store refuses (its queue
    is full) keeps none. Raises StoreUnavailable, after which some may be jobs.
    """
    results: list[Result] = [NotSubmitted()] * len(calls)
    left: Sequence[int] = range(len(calls))
    for _ in range(MAX_RELOADS):
        ready: list[tuple[int, Function, Submission]] = []
        stopped: set[str] = set()
        for i in left:
            row = rows[i] if rows else ""
            if row in stopped:
                continue
            try:
                ready.append((i, *_prepare(gateway, calls[i])))
            except FuseboxError as error:
                results[i] = error
                if row:
                    stopped.add(row)
        if is_whole and len(ready) < len(left):
            return results
        left = _commit(gateway, calls, ready, results)
    for i in left:
        results[i] = Unavailable(f"The function {calls[i].ref} is being deployed again and again.")
    return results


def _prepare(gateway: Gateway, call: Call) -> tuple[Function, Submission]:
    """A call read for the version that its name means now; raises what reading raises."""
    ref = call.ref
    function = gateway.lookup.get(ref, call.sticky)
    try:
        payload = call.read(function)
    except RequestError:
        if gateway.lookup.is_current(function, ref):
            raise
        function = gateway.lookup.get(ref, call.sticky)
        payload = call.read(function)
    spec = _spec(function, call, new_job_id(), payload)
    told = _told(function, _origin_of(call))
    return function, Submission(spec, payload.data, ref.is_latest, "", call.claim, told)


def _commit(
    gateway: Gateway,
    calls: Sequence[Call],
    ready: Sequence[tuple[int, Function, Submission]],
    results: list[Result],
) -> list[int]:
    """Submit what is ready and note the results; those to be read again for a newer version."""
    again: list[int] = []
    replies = gateway.commit.submit_all([submission for _, _, submission in ready])
    for (i, function, submission), reply in zip(ready, replies, strict=True):
        if reply is None:
            results[i] = Accepted(submission.spec, function)
        elif isinstance(reply, StaleVersion):
            gateway.lookup.forget(calls[i].ref)
            again.append(i)
        elif isinstance(reply, FuseboxError) and not isinstance(reply, StoreUnavailable):
            gateway.lookup.forget(calls[i].ref)
            results[i] = reply
        else:
            raise reply
    return again


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


def _origin_of(call: Call) -> Origin:
    """The origin of a call, with its trace and the alias that it names its version by."""
    origin = traced_origin(call.origin)
    return origin if origin.alias == call.ref.alias else replace(origin, alias=call.ref.alias)


def _told(function: Function, origin: Origin) -> Origin:
    """The origin with those whom the function itself has told of every job."""
    manifest = function.manifest
    if not manifest.on_success and not manifest.on_failure:
        return origin
    return replace(
        origin,
        on_success=tuple(dict.fromkeys(manifest.on_success + origin.on_success)),
        on_failure=tuple(dict.fromkeys(manifest.on_failure + origin.on_failure)),
    )


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
