"""The scheduler's loop over a real store, with workers that are played by the test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import Queue
from threading import Event, Thread

from contract.function import FunctionRef
from contract.job import Claim, JobId, Outcome, Status
from contract.settings import Settings
from contract.store import Store, open_store
from contract.store.coming import listen
from contract.store.queue import GroupReport, Settlement
from contract.store.workers import DagCacheReport, WorkerReport
from tests.integration.store.builders import a_submission, deploy, submit
from workers.scheduling.loop import Scheduler

WAIT_S = 10.0
Sent = tuple[str, str, list[Claim]]


@contextmanager
def scheduling(store: Store, sent: Queue[Sent], **settings: object) -> Iterator[Thread]:
    """A scheduler in a thread, with a store of its own as its process has."""
    own = open_store(store.server.url, 60)
    stop = Event()
    scheduler = Scheduler(
        Settings(**settings),  # type: ignore[arg-type]  # built by name
        own,
        lambda worker, group, claims: sent.put((worker, group, claims)),
    )
    thread = Thread(target=scheduler.run, args=(stop,))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(WAIT_S)
        own.close()
        assert not thread.is_alive()


def join(store: Store, name: str = "w", places: int = 1, ttl_s: float = 60) -> None:
    """A worker reports."""
    report = WorkerReport(
        id=name,
        device="cpu",
        device_name="cpu",
        pid=1,
        places=places,
        budget_bytes=10**9,
        resident_bytes=0,
        process_bytes=0,
        baseline_bytes=0,
        functions={},
        hosted=[],
        dag_cache=DagCacheReport(),
        loads=0,
        evictions=0,
        is_draining=False,
        started_at_s=0,
        heartbeat_at_s=time.time(),
    )
    store.workers.report(report, ttl_s, is_news=True)


def settle(store: Store, sent: Sent) -> list[bool]:
    """The worker answers its group."""
    worker, group, claims = sent
    done = Outcome(Status.SUCCEEDED, outputs={})
    report = GroupReport(group, worker, [("echo", 1, len(claims))], 0.001, 0.0, 0.0)
    settlements = [Settlement(claim, done, 0, 1000, 1) for claim in claims]
    return store.queue.settle(settlements, {}, group, report)


def test_jobs_that_wait_while_the_worker_is_busy_form_its_next_group(store: Store) -> None:
    """One place: the first job alone, everything that came meanwhile together."""
    sent: Queue[Sent] = Queue()
    function = deploy(store)
    join(store)
    with scheduling(store, sent):
        submit(store, function)
        first = sent.get(timeout=WAIT_S)
        assert len(first[2]) == 1
        later = [s.spec.id for s in submit(store, function, 5)]
        assert settle(store, first) == [True]
        second = sent.get(timeout=WAIT_S)
        assert sorted(claim.job for claim in second[2]) == sorted(later)
        settle(store, second)
    assert store.telemetry.conservation().settled["succeeded"] == 6
    assert store.telemetry.conservation().drift == 0


def test_a_busy_worker_is_told_whose_jobs_wait(store: Store) -> None:
    """While its only place is taken, without any signal; and of none when they are through."""
    sent: Queue[Sent] = Queue()
    heard: Queue[list[FunctionRef]] = Queue()
    stop = Event()
    listener = Thread(target=listen, args=(store.server, "w", heard.put, stop))
    listener.start()
    assert heard.get(timeout=WAIT_S) == []  # it listens
    busy, waiting = deploy(store, "busy"), deploy(store, "waiting")
    join(store)
    try:
        with scheduling(store, sent):
            submit(store, busy)
            first = sent.get(timeout=WAIT_S)
            submit(store, waiting, 2)
            assert heard.get(timeout=WAIT_S) == [waiting.ref]
            settle(store, first)
            settle(store, sent.get(timeout=WAIT_S))
            assert heard.get(timeout=WAIT_S) == []
    finally:
        stop.set()
        listener.join(WAIT_S)


def test_jobs_wait_for_a_worker_to_join(store: Store) -> None:
    """Its first report wakes the scheduler."""
    sent: Queue[Sent] = Queue()
    [submission] = submit(store, deploy(store))
    with scheduling(store, sent):
        assert sent.empty()
        join(store)
        assert [c.job for c in sent.get(timeout=WAIT_S)[2]] == [submission.spec.id]


def test_a_job_nobody_can_run_in_time_expires(store: Store) -> None:
    """Without any worker, too: pending jobs are looked at once a second at least."""
    sent: Queue[Sent] = Queue()
    submission = a_submission(deploy(store), timeout_s=0.3)
    with scheduling(store, sent):
        assert store.jobs.submit([submission], 9, 9) == [None]
        assert settled(store, submission.spec.id) == Status.EXPIRED
    assert store.telemetry.counters() == {"expired:queue": 1}


def test_the_jobs_of_a_worker_that_disappears_go_to_another(store: Store) -> None:
    """Found by its heartbeat, long before the lease runs out."""
    sent: Queue[Sent] = Queue()
    function = deploy(store)
    join(store, "dying", ttl_s=0.5)
    with scheduling(store, sent, lease_s=600.0):
        [submission] = submit(store, function)
        lost = sent.get(timeout=WAIT_S)
        assert lost[0] == "dying"
        join(store, "alive")
        found = sent.get(timeout=WAIT_S)
        assert found[0] == "alive"
        assert settle(store, lost) == [False]
        assert settle(store, found) == [True]
    assert store.jobs.get(submission.spec.id).attempts == 2


def test_a_lease_that_is_not_renewed_runs_out(store: Store) -> None:
    """A worker that still reports but has lost the message."""
    sent: Queue[Sent] = Queue()
    function = deploy(store)
    join(store, places=2)
    with scheduling(store, sent, lease_s=0.2):
        [submission] = submit(store, function)
        first, second = sent.get(timeout=WAIT_S), sent.get(timeout=WAIT_S)
        assert first[2][0].job == second[2][0].job == submission.spec.id
        assert second[2][0].fence > first[2][0].fence


def test_a_group_whose_message_is_lost_gives_its_place_back(store: Store) -> None:
    """Its worker reports without it after the lease: it will never begin it, nor end it."""
    sent: Queue[Sent] = Queue()
    function = deploy(store)
    join(store, places=1)
    with scheduling(store, sent, lease_s=0.2):
        [submission] = submit(store, function)
        lost = sent.get(timeout=WAIT_S)
        # the worker reports on and on, as it does, and never begins it
        while sent.empty():
            join(store, places=1)
            assert time.time() < submission.spec.deadline_s
            time.sleep(0.05)
        found = sent.get(timeout=WAIT_S)
        assert settle(store, found) == [True]
    assert store.jobs.get(submission.spec.id).attempts == 2
    assert lost[1] not in store.queue.groups()


def test_the_standby_takes_over_and_rebuilds_its_state(store: Store) -> None:
    """What was queued under the first is dispatched by the second; what runs is not run twice."""
    first: Queue[Sent] = Queue()
    second: Queue[Sent] = Queue()
    function = deploy(store)
    join(store)
    with ExitStack() as standby:
        with scheduling(store, first):
            submit(store, function)
            running = first.get(timeout=WAIT_S)
            standby.enter_context(scheduling(store, second))
            waiting = [s.spec.id for s in submit(store, function, 2)]
            assert second.empty()
        settle(store, running)
        assert sorted(claim.job for claim in second.get(timeout=WAIT_S)[2]) == sorted(waiting)
    assert first.empty()


def test_a_cancelled_job_is_not_dispatched(store: Store) -> None:
    """Though the scheduler had heard of it."""
    sent: Queue[Sent] = Queue()
    function = deploy(store)
    with scheduling(store, sent):
        cancelled, kept = submit(store, function, 2)
        store.jobs.cancel(cancelled.spec.id)
        join(store)
        assert [c.job for c in sent.get(timeout=WAIT_S)[2]] == [kept.spec.id]


def settled(store: Store, job: JobId) -> Status:
    """The job's status once it is final; listens as a gateway does."""
    with store.server.redis.pubsub() as channel:
        channel.subscribe("fb:replies:test")
        channel.get_message(timeout=WAIT_S)
        if not store.jobs.watch(job, "test").status.is_settled:
            assert channel.get_message(timeout=WAIT_S) is not None
    return store.jobs.get(job).status


def test_functions_accepted_before_they_are_retired_still_run(store: Store) -> None:
    """The scheduler finds the record of the version the job was accepted for."""
    sent: Queue[Sent] = Queue()
    [submission] = submit(store, deploy(store))
    store.functions.retire(FunctionRef("echo"))
    join(store)
    with scheduling(store, sent):
        assert sent.get(timeout=WAIT_S)[2][0].job == submission.spec.id
