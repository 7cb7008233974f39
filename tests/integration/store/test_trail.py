"""What the store notes of jobs on their way, each note in the move that it belongs to."""

from __future__ import annotations

import time

import pytest

from contract.errors import DeadlineUnmeetable
from contract.job import Claim, JobId, Outcome, Status
from contract.store import Store
from contract.store.queue import GroupReport, PlannedGroup, Settlement
from contract.store.scheduling import Answers, Decisions, SchedulingNow
from contract.trail import Ahead, Planned
from contract.utility import Served
from tests.integration.claiming import claim_group
from tests.integration.store.builders import LEADER, a_submission, deploy, lead, submit

DONE = Outcome(Status.SUCCEEDED, {"total": 1.0}, outputs={})
PLANNED = Planned(100.0, 0.01, 2, (("other", 2),))


def claim(store: Store, job: JobId, group: str = "g") -> list[Claim]:
    """The scheduler sends a job, with a note."""
    lead(store)
    planned = PlannedGroup("w", group, [job], [PLANNED.encode()])
    found = store.queue.claim_all(LEADER, time.time() + 60, [planned])
    assert found is not None
    return found[0]


def settle(
    store: Store, claims: list[Claim], is_late: bool, outcome: Outcome = DONE, group: str = "g"
) -> list[bool]:
    """A worker ends the group."""
    report = GroupReport(group, "w", [("echo", 1, len(claims))], 0.1, 0.0, 0.0)
    settlements = [Settlement(claim, outcome, 3, 2_000, 1, is_late) for claim in claims]
    return store.queue.settle(settlements, {}, group, report)


def test_each_move_leaves_its_note(store: Store) -> None:
    """What waited when the job came, what went before it, the group that it ran in."""
    function, other = deploy(store), deploy(store, "other")
    submit(store, other, 2)
    submit(store, function)
    [submission] = submit(store, function)
    job = submission.spec.id
    assert Ahead.decode(store.jobs.get(job).trail.ahead) == Ahead(3, 1)
    [held] = claim(store, job)
    [fetched] = store.queue.fetch("g", [held.job])
    assert Planned.decode(fetched.planned) == PLANNED
    trail = store.jobs.get(job).trail
    assert (trail.worker, trail.group, trail.ran) == ("w", "g", b"")
    assert settle(store, [held], is_late=False) == [True]
    trail = store.jobs.get(job).trail
    assert Planned.decode(trail.planned) == PLANNED
    assert GroupReport.decode(trail.ran).group == "g"
    assert (trail.worker, trail.group) == ("", "")


def test_a_job_accepted_by_an_earlier_platform_is_read(store: Store) -> None:
    """Its record has no notes."""
    [submission] = submit(store, deploy(store))
    job = submission.spec.id
    store.server.redis.hdel(f"fb:job:{job}", "ahead")
    lead(store)
    claims = claim_group(store.queue, LEADER, "w", "g", time.time() + 60, [job])
    assert claims is not None
    assert settle(store, claims, is_late=False) == [True]
    assert store.jobs.get(job).trail[:2] == (b"", b"")


def test_late_answers_are_counted_once_under_their_fence(store: Store) -> None:
    """A settlement that is sent again, or is void, counts nothing; one that failed is not late."""
    function = deploy(store)
    late, early, failed = (s.spec.id for s in submit(store, function, 3))
    held = claim(store, late)
    old = [Claim(late, held[0].fence - 1)]
    assert settle(store, old, is_late=True) == [False]
    for _ in range(2):
        assert settle(store, held, is_late=True) == [True]
    settle(store, claim(store, early, "g2"), is_late=False, group="g2")
    error = Outcome(Status.FAILED, error={"code": "internal", "detail": ""})
    settle(store, claim(store, failed, "g3"), is_late=True, outcome=error, group="g3")
    stats = store.telemetry.stats(["echo"])["echo"]
    assert (stats["late"], stats["jobs:succeeded"], stats["us:answered"]) == (1, 2, 4_000)
    assert store.scheduling.answers(["echo", "never"]) == {
        "echo": Answers(2, 1, 0.004),
        "never": Answers(0, 0, 0.0),
    }


def test_refusals_and_expiries_are_counted_by_function_too(store: Store) -> None:
    """Beside the platform's own counters, in the same move."""
    function = deploy(store)
    [submission] = submit(store, function)
    assert store.jobs.submit([a_submission(function)], 1, 1) != [None]
    assert store.queue.expire([submission.spec.id], "queue") == 1
    assert store.queue.expire([submission.spec.id], "queue") == 0
    [other] = submit(store, function)
    for refused in (1, 0):
        assert store.queue.refuse([(other.spec.id, DeadlineUnmeetable())]) == refused
    counters = {"rejected:queue_full": 1, "expired:queue": 1, "refused:deadline_unmeetable": 1}
    stats = store.telemetry.stats(["echo"])["echo"]
    assert stats == counters | {"jobs:expired": 1, "jobs:refused": 1}
    assert store.telemetry.counters() == counters


def test_the_last_groups_are_read_from_the_signals(store: Store) -> None:
    """The newest first, as many as are asked for; other signals are passed over."""
    function = deploy(store)
    for name in ("g1", "g2", "g3"):
        [submission] = submit(store, function)
        settle(store, claim(store, submission.spec.id, name), is_late=False, group=name)
        store.server.redis.xadd("fb:signals", {"k": "worker", "d": "w"})
    assert [group.group for group in store.scheduling.last_groups(2)] == ["g3", "g2"]
    assert len(store.scheduling.last_groups(100)) == 3


@pytest.mark.parametrize("p50_s", [None, 0.0001])
def test_what_the_scheduler_publishes_is_read_back(store: Store, p50_s: float | None) -> None:
    """Nothing before it has."""
    assert store.scheduling.now() is None
    now = SchedulingNow(
        Decisions("laxity", 3, 2, 0.001, [1, 2], p50_s, p50_s), {"echo": Served(10.0, 4, 1, 0.5)}
    )
    store.scheduling.publish(now)
    assert store.scheduling.now() == now
    assert 0 < store.server.redis.pttl("fb:scheduling") <= 5_000
