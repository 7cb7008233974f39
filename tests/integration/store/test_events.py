"""Progress in the store, and who is told of what."""

from __future__ import annotations

import time
from queue import Queue
from threading import Event, Thread

import pytest

from contract import keys
from contract.errors import InvalidInput, UnknownJob
from contract.events import EventId
from contract.job import Claim, Outcome, Status
from contract.store import Store
from contract.store.events import hear
from contract.store.queue import Settlement
from tests.integration.claiming import claim_group
from tests.integration.store.builders import LEADER, deploy, lead, submit

START = EventId(0, 0)
DONE = Outcome(Status.SUCCEEDED, result=1)


def claimed(store: Store) -> Claim:
    """A job that runs."""
    [submission] = submit(store, deploy(store))
    lead(store)
    claims = claim_group(store.queue, LEADER, "w", "g", time.time() + 60, [submission.spec.id])
    assert claims
    return claims[0]


def test_progress_is_kept_under_its_fence(store: Store) -> None:
    """In order, each once; not of an old claim, and not once the job has settled."""
    claim = claimed(store)
    assert store.events.report(claim, 1, b'"a"')
    assert store.events.report(claim, 1, b'"a"')
    assert store.events.report(claim, 2, b'"b"')
    assert not store.events.report(claim._replace(fence=9), 3, b'"c"')
    followed = store.events.follow(claim.job, "g1", START)
    assert [(str(id_), data) for id_, data in followed.progress] == [
        ("1-1", b'"a"'),
        ("1-2", b'"b"'),
    ]
    assert (followed.fence, followed.job.status) == (1, Status.RUNNING)
    later = store.events.follow(claim.job, "g1", EventId(1, 1))
    assert [data for _, data in later.progress] == [b'"b"']
    assert store.queue.settle([Settlement(claim, DONE, 0, 0, 1)], {}, "g", None) == [True]
    assert not store.events.report(claim, 3, b'"c"')
    ended = store.events.follow(claim.job, "g1", EventId(1, 2))
    assert (ended.job.outcome, ended.progress) == (DONE, [])


def test_progress_expires_with_its_job(store: Store) -> None:
    """And a settled job knows no followers."""
    claim = claimed(store)
    store.events.report(claim, 1, b"1")
    store.events.follow(claim.job, "g1", START)
    stream = f"fb:events:{claim.job}"
    assert store.server.redis.ttl(stream) > 0  # type: ignore[operator]  # redis-py's union
    store.server.redis.persist(stream)
    store.queue.settle([Settlement(claim, DONE, 0, 0, 1)], {}, "g", None)
    assert store.server.redis.ttl(stream) == store.server.redis.ttl(keys.job(claim.job))
    assert not store.server.redis.hexists(keys.job(claim.job), "followers")


def test_a_job_that_nobody_follows_has_no_stream(store: Store) -> None:
    """Nor has one that reports nothing."""
    claim = claimed(store)
    store.queue.settle([Settlement(claim, DONE, 0, 0, 1)], {}, "g", None)
    assert store.server.redis.exists(f"fb:events:{claim.job}") == 0
    with pytest.raises(UnknownJob):
        store.events.follow("0" * 24, "g1", START)


def test_followers_are_told_of_every_move(store: Store) -> None:
    """Claimed, progress, queued again, claimed, settled."""
    heard: Queue[str] = Queue()
    stop, subscribed = Event(), Event()
    listener = Thread(target=hear, args=(store.server, "g1", heard.put, subscribed.set, stop))
    listener.start()
    try:
        assert subscribed.wait(5)
        [submission] = submit(store, deploy(store))
        job = submission.spec.id
        lead(store)
        store.events.follow(job, "g1", START)
        store.events.follow(job, "g1", START)
        [claim] = claim_group(store.queue, LEADER, "w", "g", time.time() + 60, [job]) or []
        store.events.report(claim, 1, b"1")
        store.queue.hand_back("w")
        [claim] = claim_group(store.queue, LEADER, "w", "g2", time.time() + 60, [job]) or []
        assert claim.fence == 2
        store.jobs.cancel(job)
        assert [heard.get(timeout=5) for _ in range(5)] == [job] * 5
        assert heard.empty()
    finally:
        stop.set()
        listener.join()


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "1-2-3", "x", "1-99999999999", "²-1", "1 -1"]
)
def test_what_is_no_event_id_is_refused(text: str) -> None:
    """With the header's name."""
    with pytest.raises(InvalidInput, match="Last-Event-ID"):
        EventId.parse(text)
