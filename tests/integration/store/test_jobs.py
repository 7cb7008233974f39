"""The life of a job in the store: every move is atomic and none is made twice."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from contract import keys
from contract.errors import JobSettled, QueueFull, UnknownFunction, UnknownJob
from contract.function import FunctionRef
from contract.job import Claim, JobId, Outcome, Status
from contract.store import Store
from contract.store.jobs import StaleVersion
from contract.store.queue import Cursor, GroupReport, PlannedGroup, Settlement
from contract.store.replies import read_mail
from tests.integration.claiming import claim_group
from tests.integration.store.builders import LEADER, a_submission, deploy, lead, submit

DONE = Outcome(Status.SUCCEEDED, {"total": 1.0}, outputs={})


def settle(store: Store, *claims: Claim, outcome: Outcome = DONE, group: str = "g") -> list[bool]:
    """Settle claims as a worker does."""
    report = GroupReport(group, "w", [("echo", 1, 1)], 0.1, 0.0, 0.0)
    settlements = [Settlement(claim, outcome, 3, 1000, 1) for claim in claims]
    return store.queue.settle(settlements, {}, group, report)


def claim(store: Store, *jobs: JobId, group: str = "g", lease_s: float = 60) -> list[Claim]:
    """Claim jobs as the scheduler does."""
    claims = claim_group(store.queue, LEADER, "w", group, time.time() + lease_s, list(jobs))
    assert claims is not None
    return claims


def test_an_accepted_job_is_queued_and_read_back(store: Store) -> None:
    """Its spec comes back as it was, and the scheduler hears of it."""
    [submission] = submit(store, deploy(store))
    job = store.jobs.get(submission.spec.id)
    assert job.status == Status.QUEUED
    assert job.spec == submission.spec
    with closing(store.server.blocking()) as link:
        news = store.queue.wait(link, Cursor(signals="0-0"), 1)
    assert news.jobs == [submission.spec]


def test_a_job_sent_twice_is_accepted_once(store: Store) -> None:
    """A retried script must not queue the job again."""
    submission = a_submission(deploy(store))
    assert store.jobs.submit([submission], 9, 9) == [None]
    assert store.jobs.submit([submission], 9, 9) == [None]
    assert store.telemetry.conservation().queued == 1
    assert store.telemetry.conservation().drift == 0


def test_jobs_of_unknown_and_replaced_versions_are_refused(store: Store) -> None:
    """The check is part of the move that accepts the job."""
    first = deploy(store)
    second = deploy(store)
    pinned = a_submission(first, is_latest=False)
    stale = a_submission(first)
    fresh = a_submission(second)
    store.functions.publish("gone", "d" * 64, first.manifest)
    gone = a_submission(store.functions.get(FunctionRef("gone")))
    store.functions.retire(FunctionRef("gone"))
    refusals = store.jobs.submit([pinned, stale, fresh, gone], 9, 9)
    assert [type(refusal) for refusal in refusals] == [
        type(None),
        StaleVersion,
        type(None),
        UnknownFunction,
    ]


def test_the_queue_is_bounded_per_function_and_over_all(store: Store) -> None:
    """What is over a bound is refused and leaves no trace but the counter."""
    one, other = deploy(store, "one"), deploy(store, "other")
    refusals = store.jobs.submit(
        [a_submission(one), a_submission(one), a_submission(other), a_submission(other)], 2, 1
    )
    assert [type(r) for r in refusals] == [type(None), QueueFull, type(None), QueueFull]
    assert store.telemetry.queued() == {"one": 1, "other": 1}
    assert store.telemetry.counters() == {"rejected:queue_full": 2}
    assert store.telemetry.conservation().accepted == 2


def test_a_claimed_job_is_run_and_settled_once(store: Store) -> None:
    """Sent again after a broken connection, the same settlement changes nothing and is not void."""
    lead(store)
    [submission] = submit(store, deploy(store))
    [held] = claim(store, submission.spec.id)
    [fetched] = store.queue.fetch("g", [held.job])
    assert fetched.claim == held
    assert fetched.payload == b"payload"
    assert settle(store, held) == [True]
    assert settle(store, held) == [True]
    assert store.telemetry.conservation().settled["succeeded"] == 1
    assert store.telemetry.counters() == {}
    job = store.jobs.get(submission.spec.id)
    assert (job.status, job.outcome) == (Status.SUCCEEDED, DONE)
    assert store.queue.fetch("g", [held.job]) == []
    assert store.queue.groups() == {}


def test_only_the_active_scheduler_claims(store: Store) -> None:
    """A scheduler that lost the lead cannot give jobs away."""
    lead(store)
    [submission] = submit(store, deploy(store))
    assert (
        claim_group(store.queue, "former", "w", "g", time.time() + 9, [submission.spec.id]) is None
    )
    assert not store.workers.lead("scheduler", "former", 9)
    assert store.jobs.get(submission.spec.id).status == Status.QUEUED


def test_a_claim_sent_twice_gives_the_same_fence(store: Store) -> None:
    """A retried claim of the same group is the same claim; another group gets nothing."""
    lead(store)
    [submission] = submit(store, deploy(store))
    first = claim(store, submission.spec.id)
    assert claim(store, submission.spec.id) == first
    assert claim(store, submission.spec.id, group="another") == []


def test_several_groups_are_claimed_in_one_move(store: Store) -> None:
    """Each gets what is still queued of its jobs and is sent once; one without any is no group."""
    lead(store)
    function = deploy(store)
    a, b, c = (submit(store, function)[0].spec.id for _ in range(3))
    gone = claim(store, c, group="before")
    wanted = [
        PlannedGroup("w", "g1", [a, c], message=b"one"),
        PlannedGroup("v", "g2", [c], message=b"two"),
        PlannedGroup("v", "g3", [b], message=b"three"),
    ]
    first = store.queue.claim_all(LEADER, time.time() + 60, wanted)
    assert first == [[Claim(a, 1)], [], [Claim(b, 1)]]
    assert store.queue.claim_all(LEADER, time.time() + 60, wanted) == first
    assert store.queue.claim_all("former", time.time() + 60, wanted) is None
    assert store.queue.groups() == {"before": "w", "g1": "w", "g3": "v"}
    inboxes = [store.server.redis.lrange(keys.queue(worker), 0, -1) for worker in "wv"]
    assert inboxes == [[b"one"], [b"three"]]
    claims = [fetched.claim for fetched in store.queue.fetch("g1", [a, b, c])]
    assert claims == first[0]
    assert [fetched.claim for fetched in store.queue.fetch("before", [c])] == gone
    assert store.telemetry.conservation().drift == 0


def test_a_lease_that_runs_out_fences_the_old_attempt_off(store: Store) -> None:
    """The job is queued again; what the first attempt writes later is void."""
    lead(store)
    [submission] = submit(store, deploy(store))
    [old] = claim(store, submission.spec.id, lease_s=-1)
    assert store.queue.reap(time.time(), 3) == (1, 0)
    [new] = claim(store, submission.spec.id, group="h")
    assert new.fence > old.fence
    assert settle(store, old) == [False]
    assert store.queue.renew([old, new], time.time() + 9) == {old.job}
    assert settle(store, new, group="h") == [True]
    assert store.jobs.get(submission.spec.id).attempts == 2
    assert store.telemetry.conservation().drift == 0


def test_a_job_whose_workers_keep_disappearing_fails_with_worker_lost(store: Store) -> None:
    """After the last attempt it is settled, not queued again."""
    lead(store)
    [submission] = submit(store, deploy(store))
    claim(store, submission.spec.id, lease_s=-1)
    assert store.queue.reap(time.time(), 2) == (1, 0)
    claim(store, submission.spec.id, group="h", lease_s=-1)
    assert store.queue.reap(time.time(), 2) == (0, 1)
    job = store.jobs.get(submission.spec.id)
    assert job.status == Status.FAILED
    assert job.outcome is not None
    assert job.outcome.error is not None
    assert job.outcome.error["code"] == "worker_lost"


def test_a_stopping_worker_hands_its_jobs_back_without_costing_them_an_attempt(
    store: Store,
) -> None:
    """Its groups end, its jobs are queued again."""
    lead(store)
    [submission] = submit(store, deploy(store))
    claim(store, submission.spec.id)
    assert store.queue.hand_back("w") == 1
    assert store.queue.groups() == {}
    job = store.jobs.get(submission.spec.id)
    assert (job.status, job.attempts) == (Status.QUEUED, 0)


def test_queued_and_running_jobs_can_be_cancelled_and_settled_ones_cannot(store: Store) -> None:
    """A cancelled running job's worker is fenced off."""
    lead(store)
    queued, running = submit(store, deploy(store), 2)
    [held] = claim(store, running.spec.id)
    store.jobs.cancel(queued.spec.id)
    store.jobs.cancel(running.spec.id)
    assert settle(store, held) == [False]
    with pytest.raises(JobSettled):
        store.jobs.cancel(queued.spec.id)
    with pytest.raises(UnknownJob):
        store.jobs.cancel("0" * 24)
    conservation = store.telemetry.conservation()
    assert conservation.settled["cancelled"] == 2
    assert conservation.drift == 0


def test_a_claim_that_settles_while_it_is_renewed_is_not_lost(store: Store) -> None:
    """Unlike one that was cancelled: whoever runs that does so in vain."""
    lead(store)
    settled, cancelled = submit(store, deploy(store), 2)
    claims = claim(store, settled.spec.id, cancelled.spec.id)
    assert settle(store, claims[0]) == [True]
    store.jobs.cancel(cancelled.spec.id)
    assert store.queue.renew(claims, time.time() + 9) == {cancelled.spec.id}
    assert store.telemetry.conservation().running == 0


def test_only_a_queued_job_expires(store: Store) -> None:
    """Whoever claimed a job decides about it."""
    lead(store)
    queued, running = submit(store, deploy(store), 2)
    claim(store, running.spec.id)
    assert store.queue.expire([queued.spec.id, running.spec.id], "queue") == 1
    assert store.queue.expire([queued.spec.id], "queue") == 0
    assert store.telemetry.counters() == {"expired:queue": 1}
    assert store.jobs.get(queued.spec.id).status == Status.EXPIRED


def test_an_outcome_is_published_to_everybody_who_waits(store: Store) -> None:
    """The gateway that submitted the job, and one that began to watch it later."""
    lead(store)
    [submission] = submit(store, deploy(store))
    listener = store.server.redis.pubsub()
    listener.subscribe("fb:replies:gateway-1", "fb:replies:gateway-2")
    for _ in range(2):
        assert listener.get_message(timeout=5)["type"] == "subscribe"
    store.jobs.watch(submission.spec.id, "gateway-2")
    store.jobs.watch(submission.spec.id, "gateway-2")
    settle(store, *claim(store, submission.spec.id))
    messages = [listener.get_message(timeout=5) for _ in range(2)]
    assert {m["channel"] for m in messages} == {b"fb:replies:gateway-1", b"fb:replies:gateway-2"}
    for message in messages:
        assert list(read_mail(message["data"])) == [(submission.spec.id, DONE.encode())]
    assert listener.get_message(timeout=0.05) is None


def test_a_retired_version_stays_readable_until_its_last_job_settles(store: Store) -> None:
    """Running jobs finish on the version they were accepted for."""
    lead(store)
    function = deploy(store)
    [submission] = submit(store, function)
    store.functions.retire(FunctionRef("echo"))
    assert store.functions.digests() == {function.digest}
    assert store.functions.get_accepted(submission.spec.ref) == function
    settle(store, *claim(store, submission.spec.id))
    assert store.functions.digests() == set()
    assert deploy(store).version == 2


def test_outcomes_of_one_settlement_come_in_one_message_per_gateway(store: Store) -> None:
    """A group of many jobs is one message, in the group's order."""
    lead(store)
    jobs = [submission.spec.id for submission in submit(store, deploy(store), 5)]
    listener = store.server.redis.pubsub()
    listener.subscribe("fb:replies:gateway-1")
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    settle(store, *claim(store, *jobs))
    assert list(read_mail(listener.get_message(timeout=5)["data"])) == [
        (job, DONE.encode()) for job in jobs
    ]
    assert listener.get_message(timeout=0.05) is None
