"""What is refused where jobs are accepted: full queues, shares of them, hopeless deadlines."""

from __future__ import annotations

from contract.errors import QueueFull, WaitTooLong
from contract.function import Function
from contract.job import Status
from contract.store import Store
from tests.integration.claiming import claim_group
from tests.integration.store.builders import a_submission, deploy, lead, submit


def submit_one(
    store: Store, function: Function, limit: int = 100, timeout_s: float = 30.0
) -> str | None:
    """The code it was refused with, or None."""
    [refusal] = store.jobs.submit([a_submission(function, timeout_s)], limit, limit)
    return None if refusal is None else refusal.code


def test_one_function_leaves_room_in_the_queue_for_others(store: Store) -> None:
    """It may hold no more of it than is free: half, a third, a quarter."""
    functions = [deploy(store, name) for name in ("one", "two", "three")]
    for function in functions:
        while submit_one(store, function, limit=40) is None:
            pass
    assert store.telemetry.queued() == {"one": 20, "two": 10, "three": 5}


def test_a_full_queue_says_when_it_will_have_drained(store: Store) -> None:
    """From the measured rate, of the function or of all, by which bound was met."""
    one, other = deploy(store, "one"), deploy(store, "other")
    store.telemetry.set_drain({"one": 2.0, "": 10.0})
    assert store.jobs.submit([a_submission(one) for _ in range(20)], 100, 20) == [None] * 20
    [of_function] = store.jobs.submit([a_submission(one)], 100, 20)
    [of_all] = store.jobs.submit([a_submission(other)], 20, 20)
    assert isinstance(of_function, QueueFull)
    assert isinstance(of_all, QueueFull)
    assert of_function.extensions["retry_after_ms"] == 10_000
    assert of_all.extensions["retry_after_ms"] == 2_000
    store.telemetry.set_drain({})
    [unmeasured] = store.jobs.submit([a_submission(one)], 100, 20)
    assert unmeasured is not None
    assert unmeasured.extensions["retry_after_ms"] == 1_000


def test_a_job_that_would_pass_its_deadline_is_refused_at_the_door(store: Store) -> None:
    """With the predicted wait; one with more time is accepted."""
    function = deploy(store)
    submit(store, function, 20)
    store.telemetry.set_drain({"echo": 2.0})
    hasty, patient = a_submission(function, timeout_s=4.0), a_submission(function, timeout_s=60.0)
    refusal, accepted = store.jobs.submit([hasty, patient], 100, 100)
    assert accepted is None
    assert isinstance(refusal, WaitTooLong)
    assert refusal.extensions == {"predicted_wait_ms": 10_000, "retry_after_ms": 6_000}
    assert store.telemetry.counters() == {"rejected:wait_too_long": 1}
    assert store.telemetry.conservation().drift == 0


def test_without_a_measured_rate_or_a_queue_nothing_is_refused(store: Store) -> None:
    """An uncertain prediction is none."""
    function = deploy(store)
    assert submit_one(store, function, timeout_s=0.1) is None
    store.telemetry.set_drain({"echo": 0.001})
    assert submit_one(store, function, timeout_s=0.1) is None
    store.telemetry.set_drain({"another": 0.001})
    submit(store, function, 20)
    assert submit_one(store, function, timeout_s=0.1) is None


def test_running_jobs_count_into_the_wait(store: Store) -> None:
    """They are ahead as well."""
    lead(store)
    function = deploy(store)
    jobs = [submission.spec.id for submission in submit(store, function, 20)]
    claim_group(store.queue, "the-leader", "w", "g", 10**10, jobs[:15])
    store.telemetry.set_drain({"echo": 2.0})
    assert submit_one(store, function, timeout_s=5.0) == "wait_too_long"


def test_an_abandoned_job_is_cancelled_only_while_it_is_queued(store: Store) -> None:
    """What runs goes on."""
    lead(store)
    queued, running = (s.spec.id for s in submit(store, deploy(store), 2))
    claim_group(store.queue, "the-leader", "w", "g", 10**10, [running])
    assert store.jobs.abandon(queued)
    assert not store.jobs.abandon(queued)
    assert not store.jobs.abandon(running)
    assert not store.jobs.abandon("0" * 24)
    assert store.jobs.get(queued).status == Status.CANCELLED
    assert store.jobs.get(running).status == Status.RUNNING
    assert store.telemetry.counters() == {"abandoned": 1}
