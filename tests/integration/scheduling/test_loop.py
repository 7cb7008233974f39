"""The scheduler's loop over a real store, with workers that are played by the test."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from queue import Queue
from threading import Event, Thread
from typing import Any, NamedTuple

import msgpack

from contract import keys
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
# the names of all that are played
WORKERS = ("w", "dying", "alive")


class Sent(NamedTuple):
    """A group as it came to its worker."""

    worker: str
    group: str
    jobs: list[JobId]


def seal(worker: str, group: str, jobs: Sequence[JobId]) -> bytes:
    """A message to a worker."""
    packed = msgpack.packb([worker, group, list(jobs)])
    assert isinstance(packed, bytes)
    return packed


def taken(store: Store) -> Sent:
    """The next group that was sent to any worker."""
    queues = [keys.queue(worker) for worker in WORKERS]
    found: Any = store.server.redis.brpop(queues, timeout=WAIT_S)
    assert found is not None, "no group was sent"
    return Sent(*msgpack.unpackb(found[1]))


def is_any_sent(store: Store) -> bool:
    """Whether a message waits for any worker."""
    return bool(store.server.redis.exists(*(keys.queue(worker) for worker in WORKERS)))


@contextmanager
def scheduling(store: Store, **settings: object) -> Iterator[Thread]:
    """A scheduler in a thread, with a store of its own as its process has."""
    own = open_store(store.server.url, 60)
    stop = Event()
    scheduler = Scheduler(Settings(**settings), own, seal)  # type: ignore[arg-type]  # built by name
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


def settle(
    store: Store, sent: Sent, fence: int = 1, name: str = "echo", compute_s: float = 0.001
) -> list[bool]:
    """The worker answers its group; `fence`: how often each of its jobs was claimed."""
    done = Outcome(Status.SUCCEEDED, outputs={})
    report = GroupReport(sent.group, sent.worker, [(name, 1, len(sent.jobs))], compute_s, 0.0, 0.0)
    settlements = [Settlement(Claim(job, fence), done, 0, 1000, 1) for job in sent.jobs]
    return store.queue.settle(settlements, {}, sent.group, report)


def test_jobs_that_wait_while_the_worker_is_busy_form_its_next_group(store: Store) -> None:
    """One place: the first job alone, everything that came meanwhile together."""
    function = deploy(store)
    join(store)
    with scheduling(store):
        submit(store, function)
        first = taken(store)
        assert len(first.jobs) == 1
        later = [s.spec.id for s in submit(store, function, 5)]
        assert settle(store, first) == [True]
        second = taken(store)
        assert sorted(second.jobs) == sorted(later)
        settle(store, second)
    assert store.telemetry.conservation().settled["succeeded"] == 6
    assert store.telemetry.conservation().drift == 0


def test_a_busy_worker_is_told_whose_jobs_wait(store: Store) -> None:
    """While its only place is taken, without any signal; and of none when they are through."""
    heard: Queue[list[FunctionRef]] = Queue()
    stop = Event()
    listener = Thread(target=listen, args=(store.server, "w", heard.put, stop))
    listener.start()
    assert heard.get(timeout=WAIT_S) == []  # it listens
    busy, waiting = deploy(store, "busy"), deploy(store, "waiting")
    join(store)
    try:
        with scheduling(store):
            submit(store, busy)
            first = taken(store)
            submit(store, waiting, 2)
            assert heard.get(timeout=WAIT_S) == [waiting.ref]
            settle(store, first)
            settle(store, taken(store))
            assert heard.get(timeout=WAIT_S) == []
    finally:
        stop.set()
        listener.join(WAIT_S)


def test_jobs_wait_for_a_worker_to_join(store: Store) -> None:
    """Its first report wakes the scheduler."""
    [submission] = submit(store, deploy(store))
    with scheduling(store):
        assert not is_any_sent(store)
        join(store)
        assert taken(store).jobs == [submission.spec.id]


def test_a_job_nobody_can_run_in_time_expires(store: Store) -> None:
    """Without any worker, too: pending jobs are looked at once a second at least."""
    submission = a_submission(deploy(store), timeout_s=0.3)
    with scheduling(store):
        assert store.jobs.submit([submission], 9, 9) == [None]
        assert settled(store, submission.spec.id) == Status.EXPIRED
    assert store.telemetry.counters() == {"expired:queue": 1}


def test_the_jobs_of_a_worker_that_disappears_go_to_another(store: Store) -> None:
    """Found by its heartbeat, long before the lease runs out."""
    function = deploy(store)
    join(store, "dying", ttl_s=0.5)
    with scheduling(store, lease_s=600.0):
        [submission] = submit(store, function)
        lost = taken(store)
        assert lost.worker == "dying"
        join(store, "alive")
        found = taken(store)
        assert found.worker == "alive"
        assert settle(store, lost) == [False]
        assert settle(store, found, fence=2) == [True]
    assert store.jobs.get(submission.spec.id).attempts == 2


def test_a_lease_that_is_not_renewed_runs_out(store: Store) -> None:
    """A worker that still reports but has lost the message."""
    function = deploy(store)
    join(store, places=2)
    with scheduling(store, lease_s=0.2):
        [submission] = submit(store, function)
        first, second = taken(store), taken(store)
        assert first.jobs == second.jobs == [submission.spec.id]
        assert first.group != second.group
    assert store.jobs.get(submission.spec.id).attempts == 2


def test_a_group_whose_message_is_lost_gives_its_place_back(store: Store) -> None:
    """Its worker reports without it after the lease: it will never begin it, nor end it."""
    function = deploy(store)
    join(store, places=1)
    with scheduling(store, lease_s=0.2):
        [submission] = submit(store, function)
        lost = taken(store)
        # the worker reports on and on, as it does, and never begins it
        while not is_any_sent(store):
            join(store, places=1)
            assert time.time() < submission.spec.deadline_s
            time.sleep(0.05)
        found = taken(store)
        assert settle(store, found, fence=2) == [True]
    assert store.jobs.get(submission.spec.id).attempts == 2
    assert lost.group not in store.queue.groups()


def test_the_standby_takes_over_and_rebuilds_its_state(store: Store) -> None:
    """What was queued under the first is dispatched by the second; what runs is not run twice."""
    function = deploy(store)
    join(store)
    with ExitStack() as standby:
        with scheduling(store):
            submit(store, function)
            running = taken(store)
            standby.enter_context(scheduling(store))
            waiting = [s.spec.id for s in submit(store, function, 2)]
            assert not is_any_sent(store)
        settle(store, running)
        assert sorted(taken(store).jobs) == sorted(waiting)
    assert not is_any_sent(store)


def test_a_cancelled_job_is_not_dispatched(store: Store) -> None:
    """Though the scheduler had heard of it."""
    function = deploy(store)
    with scheduling(store):
        cancelled, kept = submit(store, function, 2)
        store.jobs.cancel(cancelled.spec.id)
        join(store)
        assert taken(store).jobs == [kept.spec.id]


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
    [submission] = submit(store, deploy(store))
    store.functions.retire(FunctionRef("echo"))
    join(store)
    with scheduling(store):
        assert taken(store).jobs[0] == submission.spec.id
