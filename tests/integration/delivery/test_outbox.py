"""Ended jobs in the outbox: which are there, and what becomes of them."""

from __future__ import annotations

import time

import pytest

from contract import keys
from contract.delivery import Delivery, State
from contract.errors import DeadlineUnmeetable, QueueFull
from contract.job import JobId, Status
from contract.origin import NOWHERE, Origin
from contract.settings import Settings
from contract.store import Store
from gateway.delivery.telling import bounds_of, spread
from tests.integration.claiming import claim_group
from tests.integration.delivery.builders import FAILED, SUCCEEDED, accept, end
from tests.integration.store.builders import LEADER, a_submission, deploy, lead

SUCCESS = Origin(on_success=("stream:events:s",))
FAILURE = Origin(on_failure=("stream:events:f",))
KEPT = Origin(is_kept=True)
BOTH = Origin(on_success=("stream:events:s",), on_failure=("stream:events:f", "function:x"))


def take(store: Store, settings: Settings) -> int:
    """Take all out of the outbox; how many there were."""
    link = store.server.blocking()
    try:
        ended = store.deliveries.wait(link, 100, 0.01)
    finally:
        link.close()
    spread(store, settings, ended)
    return len(ended)


def ttl_s(store: Store, job: JobId) -> int:
    """Seconds that a record is still kept; -1 while it does not expire."""
    found = store.server.redis.ttl(keys.job(job))
    assert isinstance(found, int)
    return found


def has_payload(store: Store, job: JobId) -> bool:
    """Whether the record holds the job's input."""
    return bool(store.server.redis.hexists(keys.job(job), "payload"))


@pytest.mark.parametrize(
    ("origin", "outcome", "is_there"),
    [
        (NOWHERE, SUCCEEDED, False),
        (NOWHERE, FAILED, False),
        (SUCCESS, SUCCEEDED, True),
        (SUCCESS, FAILED, False),
        (FAILURE, SUCCEEDED, False),
        (FAILURE, FAILED, True),
        (KEPT, SUCCEEDED, False),
        (KEPT, FAILED, True),
    ],
)
def test_only_ends_that_somebody_hears_of_go_through_it(
    store: Store, origin: Origin, outcome: object, is_there: bool
) -> None:
    """All others expire at once and give up their payload."""
    job = end(store, deploy(store), origin, outcome)  # type: ignore[arg-type]  # an Outcome
    assert store.deliveries.waiting() == is_there
    assert (ttl_s(store, job) == -1) == is_there == has_payload(store, job)


def test_every_move_that_settles_puts_jobs_there(store: Store) -> None:
    """settle, finish (cancelled, abandoned, expired), refuse and reap."""
    lead(store)
    function = deploy(store)
    jobs = [accept(store, function, FAILURE) for _ in range(5)]
    store.jobs.cancel(jobs[0])
    assert store.jobs.abandon(jobs[1])
    assert store.queue.expire([jobs[2]], "queue") == 1
    assert store.queue.refuse([(jobs[3], DeadlineUnmeetable())]) == 1
    assert claim_group(store.queue, LEADER, "w1", "g", time.time() - 1, [jobs[4]])
    assert store.queue.reap(time.time(), 1) == (0, 1)
    jobs.append(end(store, function, FAILURE, FAILED))
    assert store.deliveries.waiting() == len(jobs)
    assert [store.jobs.get(job).status for job in jobs] == [
        "cancelled", "cancelled", "expired", "refused", "failed", "failed",
    ]  # fmt: skip
    assert store.telemetry.conservation().drift == 0


def test_deliveries_wait_in_lanes_and_the_record_stays(store: Store, settings: Settings) -> None:
    """Until all of them are over; then it expires, without its payload."""
    job = end(store, deploy(store), BOTH, FAILED)
    assert take(store, settings) == 1
    assert store.deliveries.waiting() == 0
    now_s = time.time()
    assert store.deliveries.lanes(now_s, 10) == ["function", "stream"]
    dues = [store.deliveries.due(lane, now_s, 10)[0] for lane in ("stream", "function")]
    assert [(due.job, due.number) for due in dues] == [(job, 0), (job, 1)]
    assert (ttl_s(store, job), has_payload(store, job)) == (-1, True)
    for due in dues:
        done = Delivery("x", State.DELIVERED, now_s, 0.0, 1, now_s)
        assert store.deliveries.note(due, done, "", bounds_of(settings), now_s)
        assert not store.deliveries.note(due, done, "", bounds_of(settings), now_s)
    assert (0 < ttl_s(store, job) <= 60, has_payload(store, job)) == (True, False)
    assert store.deliveries.lanes(now_s, 10) == []
    assert store.dead_letters.count() == 0


def test_taking_a_job_out_twice_is_as_good_as_once(store: Store, settings: Settings) -> None:
    """A process that was cut off may do it after its successor."""
    job = end(store, deploy(store), BOTH)
    link = store.server.blocking()
    ended = store.deliveries.wait(link, 100, 0.01)
    link.close()
    for _ in range(2):
        spread(store, settings, ended)
    assert len(store.deliveries.of(job)) == 1


def test_a_later_try_is_not_due_before(store: Store, settings: Settings) -> None:
    """And is known as the next."""
    end(store, deploy(store), SUCCESS)
    take(store, settings)
    now_s = time.time()
    [due] = store.deliveries.due("stream", now_s, 10)
    later = Delivery("x", State.WAITING, now_s, now_s + 30, 1, now_s)
    assert store.deliveries.note(due, later, "", bounds_of(settings), now_s)
    assert store.deliveries.lanes(now_s, 10) == store.deliveries.due("stream", now_s, 10) == []
    assert store.deliveries.next_due_s(now_s) == pytest.approx(now_s + 30)
    assert store.deliveries.due("stream", now_s + 31, 10) == [due]


def test_a_full_outbox_takes_no_more_jobs_that_are_told(store: Store) -> None:
    """Whoever counts on being told hears at once that nobody tells; others are accepted."""
    function = deploy(store)
    fill = "for i = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'j', 'x', 't', 1) end"
    store.server.redis.eval(fill, 1, keys.OUTBOX)

    refusal, accepted = store.jobs.submit(
        [a_submission(function)._replace(origin=SUCCESS), a_submission(function)], 100, 100
    )
    assert isinstance(refusal, QueueFull)
    assert accepted is None


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_who_cancels_a_job_gives_it_up(store: Store, settings: Settings, status: Status) -> None:
    """It is no dead letter; one that failed is, with its payload and its reason."""
    function = deploy(store)
    if status is Status.FAILED:
        job = end(store, function, KEPT, FAILED)
    else:
        job = accept(store, function, KEPT)
        store.jobs.cancel(job)
    take(store, settings)
    letters = store.dead_letters.last(10)
    assert [letter.id for letter in letters] == ([job] if status is Status.FAILED else [])
    assert (ttl_s(store, job) > 0, has_payload(store, job)) == (True, False)


def test_reasons_of_dead_letters_are_those_of_their_ends(store: Store, settings: Settings) -> None:
    """What a job whose every worker died ran out of is attempts."""
    lead(store)
    function = deploy(store)
    lost, late = (accept(store, function, KEPT) for _ in range(2))
    assert claim_group(store.queue, LEADER, "w1", "g", time.time() - 1, [lost])
    store.queue.reap(time.time(), 1)
    store.queue.expire([late], "queue")
    end(store, function, KEPT, FAILED)
    take(store, settings)
    assert {letter.reason for letter in store.dead_letters.last(10)} == {
        "retries_exhausted",
        "deadline_exceeded",
        "handler_failed",
    }


def test_dead_letters_are_bounded(store: Store, settings: Settings) -> None:
    """By number and bytes, the oldest go; by age; one too large alone loses its payload."""
    lead(store)
    function = deploy(store)

    def fail(payload: bytes) -> JobId:
        job = accept(store, function, KEPT, payload)
        store.queue.expire([job], "queue")
        take(store, settings)
        return job

    jobs = [fail(b"small") for _ in range(7)]
    assert [letter.id for letter in store.dead_letters.last(10)] == jobs[:1:-1]
    large = [fail(b"x" * 40_000) for _ in range(3)]
    assert [letter.id for letter in store.dead_letters.last(10)] == large[:0:-1]
    [huge] = [fail(b"x" * 200_000)]
    assert store.dead_letters.get(huge).payload is None
    assert store.dead_letters.get(large[2]).payload == b"x" * 40_000
    total = sum(
        int(size) for name, size in store.server.redis.hgetall("fb:dlq:bytes").items() if name
    )
    assert int(store.server.redis.hget("fb:dlq:bytes", "")) == total
    assert store.dead_letters.purge_until(time.time() - 100) == 0
    assert store.dead_letters.purge_until(time.time()) == 3
    assert store.server.redis.hgetall("fb:dlq:bytes") == {b"": b"0"}
    assert store.server.redis.keys("fb:letter:*") == []


def test_what_is_yet_to_be_told_is_counted(store: Store, settings: Settings) -> None:
    """Ended jobs, then deliveries, until they are over; one that is put off still waits."""
    function, bounds, now_s = deploy(store), bounds_of(settings), time.time()
    end(store, function, BOTH, FAILED)
    job = end(store, function, SUCCESS)
    assert store.deliveries.backlog() == (2, 0)
    take(store, settings)
    assert store.deliveries.backlog() == (0, 3)
    streams = store.deliveries.due("stream", time.time(), 10)
    [other] = store.deliveries.due("function", time.time(), 10)
    [due] = [each for each in streams if each.job == job]
    [told] = [each for each in streams if each.job != job]
    later = Delivery("x", State.WAITING, now_s, now_s + 30, 1, now_s)
    assert store.deliveries.note(told, later, "", bounds, now_s)
    assert store.deliveries.backlog() == (0, 3)
    done = Delivery("x", State.DELIVERED, now_s, 0.0, 1, now_s)
    for each in (told, other):
        assert store.deliveries.note(each, done, "", bounds, now_s)
        assert not store.deliveries.note(each, done, "", bounds, now_s)
    assert store.deliveries.backlog() == (0, 1)
    # its record is gone, and with it whoever would be told
    store.server.redis.delete(keys.job(job))
    assert not store.deliveries.note(due, done, "", bounds, now_s)
    assert store.deliveries.backlog() == (0, 0)
    assert store.server.redis.hgetall(keys.DELIVERIES) == {b"": b"0"}
