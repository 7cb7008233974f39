"""The default policy over time: what is late, refused, urgent or of a higher priority."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.function import FunctionRef
from contract.job import JobId
from contract.store.queue import GroupReport
from tests.unit.scheduling.test_policy import waiting
from workers.scheduling.aims import PERIOD_S
from workers.scheduling.costs import Costs
from workers.scheduling.filling import AIM_SHARE, LONG_GROUP_S
from workers.scheduling.order import BURST_S, OWED_S
from workers.scheduling.policies.laxity import LeastLaxity
from workers.scheduling.priorities import OVERTAKEN_S
from workers.scheduling.records import FunctionView, Limits, PendingJob, Plan, WorkerView
from workers.scheduling.refusals import CERTAIN

NOW_S = 1_000.0
A, B = FunctionRef("a", 1), FunctionRef("b", 1)
SINGLE = FunctionView(0, lambda rows: 0, max_batch=1, is_batchable=False)
BATCHED = replace(SINGLE, max_batch=64, is_batchable=True)
LIMITS = Limits(8, 64)
IDLE = WorkerView("w", 1, 10**9, frozenset([A, B]))


def costs(**row_s: float) -> Costs:
    """Costs where a row of each function takes this long."""
    learned = Costs()
    for name, seconds in row_s.items():
        for rows in (1, 2, 1, 2, 1, 2):
            learned.learn(GroupReport("g", "w", [(name, 1, rows)], rows * seconds, 0, 0))
    return learned


def job(
    number: int,
    ref: FunctionRef = A,
    due_in_s: float = 30.0,
    deadline_in_s: float = 60.0,
    accepted_in_s: float = 0.0,
    priority: int = 0,
) -> PendingJob:
    """A job of one row; times from NOW_S."""
    times = (NOW_S + t for t in (due_in_s, deadline_in_s, accepted_in_s))
    return PendingJob(JobId(f"{number:024d}"), ref, 1, *times, priority)


def decide(
    *jobs: PendingJob,
    learned: Costs,
    view: FunctionView = BATCHED,
    worker: WorkerView = IDLE,
    limits: Limits = LIMITS,
) -> Plan:
    """What the policy does now."""
    pending = waiting(jobs, {A: view, B: view})
    return LeastLaxity(limits).plan(pending, [worker], learned, NOW_S)


def groups(decided: Plan) -> list[list[int]]:
    """The numbers of the jobs of each group."""
    return [[int(member.id) for member in dispatch.jobs] for dispatch in decided.dispatches]


def test_what_cannot_be_met_is_refused_with_what_was_predicted() -> None:
    """Its run alone takes longer than it has; the same job with more time runs."""
    decided = decide(job(1, deadline_in_s=3, due_in_s=3), job(2), learned=costs(a=10.0))
    [refusal] = decided.refused
    assert (refusal.job, refusal.reason) == (job(1, deadline_in_s=3, due_in_s=3), "too_long")
    assert refusal.earliest_end_s == NOW_S + CERTAIN * 10.0
    assert groups(decided) == [[2]]


def test_what_a_worker_has_counts_for_what_waits() -> None:
    """But not for a job of a function that was never measured, nor where no worker is."""
    busy = replace(IDLE, free_places=0, under_way_s=10.0, remaining_s=10.0)
    urgent = job(1, due_in_s=1, deadline_in_s=1)
    [refusal] = decide(urgent, learned=costs(a=0.1), worker=busy).refused
    assert refusal.reason == "workers_busy"
    assert decide(urgent, learned=Costs(), worker=busy).refused == []
    pending = waiting([urgent], {A: BATCHED})
    assert LeastLaxity(Limits(8, 8)).plan(pending, [], costs(a=10.0), NOW_S).refused == []


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 9)), max_size=20),
    st.floats(0.01, 2),
    st.floats(0, 3),
)
def test_only_what_is_infeasible_is_refused(
    deadlines: list[tuple[int, int]], cost_s: float, busy_s: float
) -> None:
    """Even if it came first, in half of the predicted time, it would miss its deadline."""
    learned = costs(a=cost_s)
    busy = replace(IDLE, under_way_s=busy_s, remaining_s=busy_s) if busy_s else IDLE
    jobs = [
        job(n, due_in_s=ms / 1000, deadline_in_s=ms / 1000, priority=priority)
        for n, (ms, priority) in enumerate(deadlines)
    ]
    decided = decide(*jobs, learned=learned, worker=busy)
    least_s = NOW_S + CERTAIN * (busy_s + learned.compute_s(A, 1))
    refused = {refusal.job for refusal in decided.refused}
    assert refused == {each for each in jobs if least_s > each.deadline_s}
    assert not refused & {member for d in decided.dispatches for member in d.jobs}


def test_what_is_late_goes_behind_what_can_be_in_time() -> None:
    """It was due before it could end; its deadline is far, so it runs when nothing else waits."""
    late, good = job(1, due_in_s=0.05), job(2, B, due_in_s=0.2)
    learned = costs(a=0.1, b=0.1)
    assert groups(decide(late, good, learned=learned, limits=Limits(8, 1))) == [[2]]
    assert groups(decide(late, learned=learned)) == [[1]]


def test_a_flood_leaves_a_steady_job_in_time() -> None:
    """Rows that would make it late stay out of the group before it."""
    flood = [job(n, due_in_s=1.0) for n in range(60)]
    steady = job(99, B, due_in_s=0.3)
    learned = costs(a=0.02, b=0.1)
    [first] = decide(*flood, steady, learned=learned, limits=Limits(1, 64)).dispatches
    assert first.jobs == (steady,)
    [first] = decide(*flood, steady, learned=learned).dispatches
    assert steady in first.jobs
    assert NOW_S + first.predicted_s <= steady.due_at_s


def test_groups_are_as_short_as_the_tightest_aim_asks() -> None:
    """Of functions of which jobs came lately, those that wait in between too."""
    flood = [job(n) for n in range(60)]
    learned = costs(a=0.01, b=0.01)
    pending = waiting(flood, {A: BATCHED, B: BATCHED})
    policy = LeastLaxity(Limits(8, 64))
    [alone] = policy.plan(pending, [IDLE], learned, NOW_S).dispatches
    assert alone.predicted_s <= LONG_GROUP_S * 1.001
    passing = job(99, B, due_in_s=0.2)
    pending.add(passing)
    pending.remove(passing.id)
    [beside] = policy.plan(pending, [IDLE], learned, NOW_S).dispatches
    assert 0 < beside.predicted_s <= AIM_SHARE * 0.2 * 1.001
    [later] = policy.plan(pending, [IDLE], learned, NOW_S + 2 * PERIOD_S).dispatches
    assert later.predicted_s == alone.predicted_s


def test_a_group_is_not_sent_long_before_the_worker_is_free() -> None:
    """It would miss what comes until then; the policy asks to be asked in time."""
    learned = costs(a=0.01)
    early = replace(IDLE, under_way_s=0.2, remaining_s=0.15)
    decided = decide(job(1), learned=learned, worker=early)
    assert decided.dispatches == []
    assert NOW_S < decided.wake_at_s < NOW_S + 0.15
    soon = replace(early, remaining_s=0.005)
    assert groups(decide(job(1), learned=learned, worker=soon)) == [[1]]


def test_a_higher_priority_goes_first_for_a_while() -> None:
    """Until a lower one has waited for each step between them."""
    learned = costs(a=0.01, b=0.01)
    low, high = job(1, due_in_s=0.5), job(2, B, priority=2)
    one = Limits(8, 1)
    assert groups(decide(low, high, learned=learned, limits=one)) == [[2]]
    old = replace(low, accepted_at_s=NOW_S - 2.5 * OVERTAKEN_S)
    assert groups(decide(old, high, learned=learned, limits=one)) == [[1]]


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 1), (0, 9), (3, 5)])
def test_nobody_starves(low: int, high: int) -> None:
    """Whatever keeps coming, of whatever priority, a late job that waits is served in the end."""
    learned, policy = costs(a=0.02, b=0.02), LeastLaxity(Limits(1, 4))
    late = job(0, due_in_s=0.001, deadline_in_s=1e6, priority=low)
    pending, now_s, number = waiting([late], {A: BATCHED, B: BATCHED}), NOW_S, 0
    while late.id in pending:
        assert now_s < NOW_S + (high - low) * OVERTAKEN_S + OWED_S + BURST_S + LONG_GROUP_S
        for _ in range(4):
            number += 1
            due_s = now_s - NOW_S + 0.4
            pending.add(job(number, B, due_s, due_s + 60, now_s - NOW_S, high))
        for dispatch in policy.plan(pending, [IDLE], learned, now_s).dispatches:
            for member in dispatch.jobs:
                pending.remove(member.id)
                pending.shares.charge(member.function.name, 0.02)
            now_s += dispatch.predicted_s


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_on_one_machine_what_can_be_in_time_is(dues_cs: list[int]) -> None:
    """Jobs one by one: if any order has all of them in time, so has the policy's (Jackson)."""
    cost_s = 0.1
    learned = costs(a=cost_s, b=cost_s)
    jobs = [job(n, (A, B)[n % 2], cs / 100 + 0.005, 60) for n, cs in enumerate(dues_cs)]
    pending, now_s, in_time = waiting(jobs, {A: SINGLE, B: SINGLE}), NOW_S, 0
    policy = LeastLaxity(Limits(1, 1))
    while pending:
        [dispatch] = policy.plan(pending, [IDLE], learned, now_s).dispatches
        now_s += cost_s
        for member in dispatch.jobs:
            pending.remove(member.id)
            in_time += now_s <= member.due_at_s + 1e-6
    best = max(
        sum(NOW_S + (k + 1) * cost_s <= each.due_at_s + 1e-6 for k, each in enumerate(order))
        for order in permutations(jobs)
    )
    if best == len(jobs):
        assert in_time == best


def test_idle_workers_share_what_waits() -> None:
    """A long group leaves the rest to another worker that has nothing."""
    learned = costs(a=0.02)
    pending = waiting([job(n) for n in range(10)], {A: BATCHED})
    workers = [IDLE, replace(IDLE, id="v")]
    decided = LeastLaxity(Limits(8, 64)).plan(pending, workers, learned, NOW_S)
    assert sorted(len(dispatch.jobs) for dispatch in decided.dispatches) == [5, 5]
