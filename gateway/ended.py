"""Calls of doors that wait for the end: had accepted, or joined where they came before."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from contract.errors import DeadlineExceeded, StoreUnavailable
from contract.job import JobId, JobSpec, Outcome, Status
from gateway.calls import GRACE_S, Call, look_up, run
from gateway.context import Gateway


class Ended(NamedTuple):
    """A job, and how it ended; the outcome is None while it goes on."""

    spec: JobSpec
    outcome: Outcome | None


def call_to_end(
    gateway: Gateway,
    call: Call,
    environ: Mapping[str, Any] | None = None,
    wait_s: float | None = None,
) -> Ended:
    """`gateway.calls.run`, whose lost reply is looked up; raises what it raises."""
    accepted = run(gateway, call, environ, wait_s)
    if accepted.outcome is not None:
        return Ended(accepted.spec, accepted.outcome)
    return _looked_up(gateway, accepted.spec)


def join(gateway: Gateway, job_id: JobId, wait_s: float | None = None) -> Ended:
    """Wait for a job that was accepted before, as its first caller does; raises UnknownJob."""
    if gateway.replies.is_full:
        job = gateway.store.jobs.get(job_id)
        return Ended(job.spec, job.outcome)
    with gateway.replies.expect(job_id, is_poll=wait_s is not None) as waiter:
        job = gateway.store.jobs.watch(job_id, gateway.replies.gateway_id)
        outcome = job.outcome
        if outcome is None:
            until_deadline_s = job.spec.deadline_s + GRACE_S - time.time()
            patience_s = gateway.settings.max_wait_s if wait_s is None else wait_s
            outcome = waiter.wait(min(patience_s, until_deadline_s))
    return _looked_up(gateway, job.spec) if outcome is None else Ended(job.spec, outcome)


def _looked_up(gateway: Gateway, spec: JobSpec) -> Ended:
    job, error = look_up(gateway, spec)
    if isinstance(error, DeadlineExceeded):
        return Ended(spec, Outcome.of_error(error, Status.EXPIRED))
    if isinstance(error, StoreUnavailable):
        raise error
    assert job is not None
    return Ended(spec, job.outcome)
