"""Fair shares of the device: between functions, over time, whatever the load."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.function import FunctionRef
from contract.job import JobId
from contract.store.queue import GroupReport
from tests.unit.scheduling.test_policy import plan, waiting
from workers.scheduling.costs import Costs
from workers.scheduling.forecast import Forecast
from workers.scheduling.groups import LONG_GROUP_S
from workers.scheduling.order import BURST_S, URGENT_WITHIN_S, Turns
from workers.scheduling.records import FunctionView, Limits, PendingJob, WorkerView
from workers.scheduling.shares import Shares

A, B, C = (FunctionRef(name, 1) for name in "abc")
# neither the batch nor the count of jobs ends a group here, but its time
VIEW = FunctionView(0, lambda rows: 0, max_batch=512, is_batchable=True)
LIMITS = Limits(functions=8, jobs=512)
NOW_S = 1_000.0


def job(
    number: int, function: FunctionRef, due_in_s: float = 30.0, deadline_in_s: float = 30.0
) -> PendingJob:
    """A job of one row."""
    return PendingJob(JobId(f"{number:024d}"), function, 1, NOW_S + due_in_s, NOW_S + deadline_in_s)


def costs(**row_s: float) -> Costs:
    """Costs where a row of each function takes this long, grouped or not."""
    learned = Costs()
    for name, seconds in row_s.items():
        for rows in (1, 2, 1, 2, 1, 2):
            learned.learn(GroupReport("g", "w", [(name, 1, rows)], rows * seconds, 0, 0))
    return learned


def order(*jobs: PendingJob, used_s: dict[str, float] | None = None) -> list[PendingJob]:
    """The order in which jobs of 10 ms are taken."""
    learned = costs(a=0.01, b=0.01, c=0.01)
    pending = waiting(jobs, dict.fromkeys((A, B, C), VIEW), used_s or {})
    return taken(Turns(pending, Forecast().at(learned, NOW_S), NOW_S, NOW_S))


def taken(turns: Turns) -> list[PendingJob]:
    """All jobs, one after another."""
    jobs = []
    while (turn := turns.first()) is not None:
        jobs.append(turn.job)
        turns.take()
    return jobs


def test_a_lone_job_goes_before_a_flood_that_came_first() -> None:
    """After one job of the flood, whose function has had as little."""
    flood = [job(number, A) for number in range(100)]
    assert order(*flood, job(500, B)).index(job(500, B)) == 1


def test_whoever_has_had_less_goes_first() -> None:
    """Device seconds so far come before the order of acceptance."""
    assert order(job(1, A), job(2, B), used_s={"a": 2.0, "b": 1.0}) == [job(2, B), job(1, A)]


def test_what_is_about_to_be_late_goes_first_unless_its_function_is_far_ahead() -> None:
    """An aim is kept where there is time for it; it is no licence to take more than a share."""
    urgent, patient = job(9, A, due_in_s=URGENT_WITHIN_S / 2), job(1, B)
    ahead = {"a": BURST_S / 2, "b": 0.0}
    assert order(urgent, patient, used_s=ahead) == [urgent, patient]
    far_ahead = {"a": BURST_S * 2, "b": 0.0}
    assert order(urgent, patient, used_s=far_ahead) == [patient, urgent]


def test_what_cannot_be_in_time_any_more_goes_last() -> None:
    """It would keep the device from what can."""
    late, good = job(1, A, 0.001, 0.001), job(2, A)
    assert order(late, good) == [good, late]


def test_a_function_that_was_idle_saves_nothing_up() -> None:
    """It starts where the least served of those that wait is."""
    shares = Shares()
    shares.enter("a")
    shares.charge("a", 100.0)
    shares.enter("b")
    assert shares.used_s["b"] == 100.0
    shares.charge("a", 5.0)
    shares.leave("a")
    shares.leave("b")
    shares.enter("c")
    assert shares.used_s["c"] == 105.0


@settings(max_examples=12, deadline=None)
@given(
    row_ms=st.tuples(*[st.integers(2, 40)] * 3),
    slo_s=st.tuples(*[st.sampled_from([0.05, 0.5, 2.0, 30.0])] * 3),
)
def test_floods_share_the_device_evenly(
    row_ms: tuple[int, int, int], slo_s: tuple[float, float, float]
) -> None:
    """Whatever their jobs cost and aim at, no two differ by more than a burst and a few groups."""
    refs = (A, B, C)
    learned = costs(**{ref.name: ms / 1000 for ref, ms in zip(refs, row_ms, strict=True)})
    shares, used_s = Shares(), dict.fromkeys("abc", 0.0)
    for ref in refs:
        shares.enter(ref.name)
    views, now_s, number = dict.fromkeys(refs, VIEW), NOW_S, 0
    for _ in range(40):
        flood = []
        for ref, aim_s in zip(refs, slo_s, strict=True):
            for _ in range(64):
                number += 1
                flood.append(PendingJob(JobId(f"{number:024d}"), ref, 1, now_s + aim_s, now_s + 60))
        worker = WorkerView("w", 1, 10**9, frozenset(refs))
        [dispatch] = plan(flood, [worker], views, learned, LIMITS, now_s, shares.used_s).dispatches
        for member in dispatch.jobs:
            cost_s = row_ms[refs.index(member.function)] / 1000
            now_s += cost_s
            used_s[member.function.name] += cost_s
            shares.charge(member.function.name, cost_s)
    assert max(used_s.values()) - min(used_s.values()) <= BURST_S + 4 * LONG_GROUP_S


@given(st.integers(0, 300), st.floats(0, 5))
def test_a_modest_function_is_in_the_next_group(flood: int, had_s: float) -> None:
    """However many jobs of another function wait."""
    jobs = [*(job(number, A) for number in range(flood)), job(999, B)]
    worker = WorkerView("w", 1, 10**9, frozenset([A, B]))
    used_s = {"a": had_s, "b": 0.0}
    decided = plan(jobs, [worker], {A: VIEW, B: VIEW}, costs(a=0.01, b=0.01), LIMITS, NOW_S, used_s)
    assert job(999, B) in decided.dispatches[0].jobs


def test_a_group_computes_no_longer_than_others_can_wait() -> None:
    """But one job that takes longer alone still runs."""
    worker = WorkerView("w", 1, 10**9, frozenset([A]))
    jobs = [job(number, A) for number in range(30)]
    for row_s, expected in ((0.05, 5), (1.0, 1)):
        [dispatch] = plan(jobs, [worker], {A: VIEW}, costs(a=row_s), LIMITS, NOW_S).dispatches
        assert len(dispatch.jobs) == expected
