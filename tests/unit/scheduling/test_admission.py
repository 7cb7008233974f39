"""Who hears at once that it would be late: not in a burst, but while more comes than is served."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.function import FunctionRef
from contract.store.queue import GroupReport
from tests.unit.scheduling.test_laxity import BATCHED, SINGLE, A, B, costs, job
from tests.unit.scheduling.test_policy import waiting
from workers.scheduling.admission import CALM_S, RATE_OVER_S, Admission
from workers.scheduling.costs import Costs
from workers.scheduling.forecast import Forecast
from workers.scheduling.pending import Pending
from workers.scheduling.policies.laxity import LeastLaxity
from workers.scheduling.records import FunctionView, Limits, PendingJob, WorkerView

NOW_S = 1_000.0
COST_S = 0.01
BUSY = WorkerView("w", 0, 10**9, frozenset([A, B]), under_way_s=COST_S, remaining_s=COST_S)


class Line:
    """One function's queue and who judges it."""

    def __init__(self, view: FunctionView = SINGLE) -> None:
        self.admission = Admission()
        self.pending: Pending = waiting([], {A: view, B: view})
        self.forecast = Forecast()
        self.costs = costs(a=COST_S, b=COST_S)
        self.number = 0

    def come(self, count: int, at_s: float, due_in_s: float, deadline_in_s: float) -> None:
        """So many jobs arrive."""
        for _ in range(count):
            self.number += 1
            since_s = at_s - NOW_S
            times = (due_in_s + since_s, deadline_in_s + since_s, since_s)
            self.pending.add(job(self.number, A, *times))

    def refused(self, at_s: float, worker: WorkerView = BUSY) -> list[int]:
        """The numbers of those that are refused now; they wait no longer."""
        forecast = self.forecast.at(self.costs, at_s)
        found = self.admission.refuse(self.pending, [worker], forecast, at_s)
        assert len({refusal.job.id for refusal in found}) == len(found)
        for refusal in found:
            assert self.pending.remove(refusal.job.id) is not None
        return [int(refusal.job.id) for refusal in found]

    def serve(self, count: int, at_s: float) -> None:
        """The last so many are sent to a worker."""
        jobs = list(self.pending)[-count:]
        self.admission.note(jobs, self.pending, at_s)
        for each in jobs:
            self.pending.remove(each.id)


def overloaded() -> Line:
    """Jobs have been late for long, and none of them was served."""
    line = Line()
    line.come(20, NOW_S, 0.05, 10.0)
    assert line.refused(NOW_S) == []
    return line


def test_a_burst_is_answered_late() -> None:
    """Nothing is known yet of how late jobs fare, so they wait."""
    line = Line()
    line.come(100, NOW_S, 0.05, 10.0)
    assert line.refused(NOW_S) == []
    assert line.refused(NOW_S + RATE_OVER_S / 2) == []


def test_while_late_jobs_are_not_served_they_are_refused_at_once() -> None:
    """Those that wait, and then who comes and would be late; who would be in time is admitted."""
    line = overloaded()
    later_s = NOW_S + RATE_OVER_S + 0.01
    # none of them can be in time now
    assert sorted(line.refused(later_s)) == list(range(1, 21))
    line.come(3, later_s, 10 * COST_S, 10.0)
    assert line.refused(later_s) == []
    line.come(20, later_s, 10 * COST_S, 10.0)
    told = line.refused(later_s)
    # the first of a line are in time, whoever comes behind them is not
    assert told == list(range(told[0], 44))
    assert 24 < told[0] < 35
    assert len(line.pending) == told[0] - 21


def test_as_many_wait_as_are_served_before_their_deadline() -> None:
    """At the rate of late, in a part of the time that they have."""
    line = Line()
    line.come(40, NOW_S, 0.0, 1.0)
    line.refused(NOW_S)
    served = 10
    line.serve(served, NOW_S + 0.1)
    at_s = NOW_S + RATE_OVER_S + 0.001
    told = line.refused(at_s)
    # a tenth of a device second in half a second; of half a second that is left, a part to wait
    assert 0 < len(told) < 30
    assert told == list(range(told[0], 31))


def test_after_a_calm_the_next_burst_is_kept() -> None:
    """The rate of before says nothing of then; a moment without late jobs is no calm."""
    for pause_s, is_kept in ((CALM_S / 2, False), (2 * CALM_S, True)):
        line = overloaded()
        later_s = NOW_S + RATE_OVER_S + 0.01
        line.come(1, later_s, 0.0, 10.0)
        assert 21 in line.refused(later_s)
        line.come(100, later_s + pause_s, 0.05, 10.0)
        assert (line.refused(later_s + pause_s) == []) == is_kept


def test_functions_that_never_ran_are_not_judged() -> None:
    """What is not measured is not known to be late."""
    line = Line()
    line.costs = costs()
    line.come(100, NOW_S, 0.001, 10.0)
    assert line.refused(NOW_S) == []
    assert line.refused(NOW_S + RATE_OVER_S + 0.01) == []


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.floats(0.001, 0.2), st.floats(0.2, 2)), max_size=30),
    st.lists(st.integers(0, 6), min_size=30, max_size=30),
)
def test_no_job_is_refused_twice_nor_kept_in_mind_when_it_has_gone(
    arrivals: list[tuple[int, float, float]], served: list[int]
) -> None:
    """Whatever comes and goes; only jobs that wait are refused, and reasons are told."""
    line, at_s = Line(BATCHED), NOW_S
    for (count, due_s, deadline_s), gone in zip(arrivals, served, strict=False):
        line.come(count, at_s, due_s, deadline_s)
        line.refused(at_s)
        if gone and len(line.pending):
            line.serve(gone, at_s)
        at_s += 0.03
        for each in [each for each in line.pending if each.deadline_s <= at_s]:
            line.pending.remove(each.id)
    line.refused(at_s + 1)
    assert set(line.admission.waiting()) <= {each.id for each in line.pending}


def grouped(decided: list[PendingJob]) -> dict[FunctionRef, int]:
    """Jobs by function."""
    return {ref: sum(each.function == ref for each in decided) for ref in (A, B)}


def run_together(learned: Costs, row_s: float, factor: float) -> None:
    """Groups of A and B have taken so much more or less than both alone."""
    for ref in (A, B):
        learned.learn(GroupReport("g", "w", [(ref.name, 1, 4)], 4 * row_s, 0, 0))
    for rows in (1, 4) * 6:
        members = [("a", 1, rows), ("b", 1, rows)]
        learned.learn(GroupReport("g", "w", members, 2 * rows * row_s * factor, 0, 0))


def plan_of(learned_together: float | None, cost_s: float) -> dict[FunctionRef, int]:
    """The group that is made of four jobs of A and four of B that wait, A's first."""
    learned = costs(a=cost_s, b=cost_s)
    if learned_together is not None:
        run_together(learned, cost_s, learned_together)
    jobs = [job(n, A if n < 4 else B, due_in_s=30 + n) for n in range(8)]
    idle = WorkerView("w", 1, 10**9, frozenset([A, B]))
    pending = waiting(jobs, {A: BATCHED, B: BATCHED})
    [dispatch] = LeastLaxity(Limits(8, 64)).plan(pending, [idle], learned, NOW_S).dispatches
    return grouped(list(dispatch.jobs))


def test_functions_run_together_until_that_is_known_not_to_pay() -> None:
    """Tried first; then only where what is gained is more than those of the group wait longer."""
    assert plan_of(None, 0.01) == {A: 4, B: 4}
    assert plan_of(0.6, 0.01) == {A: 4, B: 4}
    assert plan_of(1.1, 0.01) == {A: 4, B: 0}


def test_short_runs_go_together_though_that_saves_no_computing() -> None:
    """The way of a group is longer than they are."""
    assert plan_of(1.1, 0.0001) == {A: 4, B: 4}


def test_jobs_run_along_with_those_of_their_function() -> None:
    """Out of turn: a row more costs less than another function, which is next."""
    learned = costs(a=0.01, b=0.01)
    run_together(learned, 0.01, 1.1)
    jobs = [job(n, (A, B)[n % 2], due_in_s=30 + n) for n in range(8)]
    idle = WorkerView("w", 1, 10**9, frozenset([A, B]))
    pending = waiting(jobs, {A: BATCHED, B: BATCHED})
    [dispatch] = LeastLaxity(Limits(8, 64)).plan(pending, [idle], learned, NOW_S).dispatches
    assert grouped(list(dispatch.jobs)) == {A: 4, B: 0}
