"""Jobs that cannot be met are refused at once; those of a higher priority go first."""

from __future__ import annotations

import time
from dataclasses import replace

from contract.function import Function
from contract.job import JobId, Status, Submission, new_job_id
from contract.store import Store
from tests.integration.scheduling.test_loop import WAIT_S, join, scheduling, settle, taken
from tests.integration.store.builders import a_submission, deploy

# What a run of `echo` takes, as the worker reports it.
RUN_S = 30.0


def submit(store: Store, submission: Submission) -> JobId:
    """One accepted job."""
    assert store.jobs.submit([submission], 99, 99) == [None]
    return submission.spec.id


def measure(store: Store, function: Function) -> None:
    """The worker runs a job that takes RUN_S."""
    submit(store, a_submission(function, timeout_s=600))
    assert settle(store, taken(store), name=function.name, compute_s=RUN_S) == [True]


def told(store: Store, job: JobId, gateway: str = "waiting") -> float:
    """Wait as a gateway does until a job has settled; for how long."""
    began_s = time.monotonic()
    with store.server.redis.pubsub() as channel:
        channel.subscribe(f"fb:replies:{gateway}")
        channel.get_message(timeout=WAIT_S)
        if not store.jobs.watch(job, gateway).status.is_settled:
            assert channel.get_message(timeout=WAIT_S) is not None
    return time.monotonic() - began_s


def test_a_job_that_takes_longer_than_it_has_is_refused_at_once(store: Store) -> None:
    """With what was predicted, long before its deadline; the others of its function run."""
    function = deploy(store)
    join(store)
    with scheduling(store):
        measure(store, function)
        refused = submit(store, a_submission(function, timeout_s=RUN_S / 4))
        assert told(store, refused) < RUN_S / 8
        kept = submit(store, a_submission(function, timeout_s=RUN_S * 4))
        assert taken(store).jobs == [kept]
    job = store.jobs.get(refused)
    assert job.status == Status.REFUSED
    assert job.outcome is not None
    error = dict(job.outcome.error or {})
    assert (error["code"], error["reason"]) == ("deadline_unmeetable", "too_long")
    assert error["deadline"] == job.spec.deadline_s < error["earliest_end"]
    assert 1000 <= error["retry_after_ms"] <= 60_000
    assert store.telemetry.counters()["refused:deadline_unmeetable"] == 1
    assert store.telemetry.conservation().drift == 0


def test_a_job_behind_a_long_run_is_refused_while_no_place_is_free(store: Store) -> None:
    """Nobody waits for the worker to end what it has before they are told."""
    slow, quick = deploy(store, "slow"), deploy(store, "quick")
    join(store)
    with scheduling(store):
        measure(store, slow)
        submit(store, a_submission(quick))
        settle(store, taken(store), name="quick")
        submit(store, a_submission(slow, timeout_s=600))
        taken(store)
        refused = submit(store, a_submission(quick, timeout_s=RUN_S / 4))
        assert told(store, refused) < RUN_S / 8
    outcome = store.jobs.get(refused).outcome
    assert outcome is not None
    assert dict(outcome.error or {})["reason"] == "workers_busy"


def test_the_higher_priority_goes_first(store: Store) -> None:
    """Though it came later and is due later."""
    function = deploy(store)
    submission = a_submission(function)
    spec = replace(
        submission.spec,
        id=new_job_id(),
        priority=5,
        due_at_s=submission.spec.due_at_s + 10,
        deadline_s=submission.spec.deadline_s + 10,
    )
    with scheduling(store, group_jobs=1, places=1):
        low, high = submit(store, submission), submit(store, submission._replace(spec=spec))
        join(store)
        first = taken(store)
        assert first.jobs == [high]
        settle(store, first)
        assert taken(store).jobs == [low]
