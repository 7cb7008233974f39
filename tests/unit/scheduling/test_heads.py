"""What is kept of lines between decisions: the order is that of a queue that was made just now."""

from __future__ import annotations

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contract.function import FunctionRef
from contract.job import JobId
from contract.store.queue import GroupReport
from tests.unit.scheduling.test_policy import FUNCTIONS, NOW_S, waiting
from tests.unit.scheduling.test_shares import taken
from workers.scheduling.costs import Costs
from workers.scheduling.forecast import Forecast
from workers.scheduling.order import Turns
from workers.scheduling.pending import Pending
from workers.scheduling.records import PendingJob

REFS = [*FUNCTIONS, FunctionRef("a", 2), FunctionRef("unknown", 1)]
VIEWS = {**FUNCTIONS, REFS[3]: FUNCTIONS[REFS[0]]}
SECONDS = st.sampled_from([0.001, 0.01, 0.1, 0.5, 3.0])


def a_job(number: int, ref: FunctionRef, rows: int, due_s: float, more_s: float, priority: int,
          ) -> PendingJob:  # fmt: skip
    """A job that is worthless some time after it is due."""
    at_s = NOW_S + due_s
    return PendingJob(JobId(f"{number:024d}"), ref, rows, at_s, at_s + more_s, NOW_S, priority)


JOBS = st.builds(
    a_job,
    st.integers(0, 40),
    st.sampled_from(REFS),
    st.sampled_from([1, 1, 2, 8]),
    st.sampled_from([0.0, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 2.0, 9.0]),
    st.sampled_from([0.0, 0.05, 5.0]),
    st.sampled_from([0, 0, 0, 2]),
)


def seen(pending: Pending, forecast: Forecast, start_s: float) -> dict[object, object]:
    """What a decision looks at, by line."""
    look = pending.heads.look(forecast, start_s, 0.0)
    columns = look.ahead_s, look.head_due_s, look.late_due_s, look.due_s
    values = zip(*(column.tolist() for column in columns), strict=True)
    return {
        (line.ref, line.priority): (line.late, look.most_ahead_s, *its)
        for line, its in zip(look.lines, values, strict=True)
    }


class Deciding(RuleBasedStateMachine):
    """Jobs come and go, times are learned, shares are charged, and the order is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.pending, self.costs = waiting([], VIEWS), Costs()

    @rule(jobs=st.lists(JOBS, min_size=1, max_size=6))
    def add(self, jobs: list[PendingJob]) -> None:
        """Some are known already."""
        for job in jobs:
            self.pending.add(job)

    @rule(number=st.integers(0, 40))
    def remove(self, number: int) -> None:
        """Whether it waits or not."""
        self.pending.remove(JobId(f"{number:024d}"))

    @rule(ref=st.sampled_from(REFS), rows=st.sampled_from([1, 8]), seconds=SECONDS)
    def learn(self, ref: FunctionRef, rows: int, seconds: float) -> None:
        """A group has run, and its function has had the time."""
        report = GroupReport("g", "w", [(ref.name, ref.version, rows)], seconds, 0, 0)
        for its, part_s in self.costs.learn(report):
            self.pending.shares.charge(its.name, part_s)

    @rule(ref=st.sampled_from(REFS), seconds=SECONDS)
    def charge(self, ref: FunctionRef, seconds: float) -> None:
        """A function has had the device."""
        self.pending.shares.charge(ref.name, seconds)

    @rule(ref=st.sampled_from(REFS), seconds=SECONDS)
    def expect(self, ref: FunctionRef, seconds: float) -> None:
        """A function was measured at deploy."""
        self.costs.expect(ref, {1: seconds})

    @rule(ref=st.sampled_from(REFS))
    def forget(self, ref: FunctionRef) -> None:
        """A function is gone."""
        self.costs.forget(ref)
        self.pending.shares.forget(ref.name)

    @rule()
    def take_over(self) -> None:
        """Times are those of another model from now on."""
        self.costs = Costs()

    @rule(
        start_s=st.sampled_from([-0.1, 0.0, 0.005, 0.05, 0.2, 1.5]),
        target_s=st.sampled_from([0.0, 0.02, 0.5]),
    )
    def decide(self, start_s: float, target_s: float) -> None:
        """At any time, and times may go back: another worker may be free sooner."""
        forecast = Forecast().at(self.costs, NOW_S)
        kept = Turns(self.pending, forecast, NOW_S + start_s, NOW_S, target_s)
        expected = Turns(self.fresh(), forecast, NOW_S + start_s, NOW_S, target_s)
        order = taken(kept)
        assert order == taken(expected)
        assert {*order} == {job for job in self.pending if job.function in VIEWS}

    def fresh(self) -> Pending:
        """A queue of the same jobs that was never looked at."""
        fresh = waiting(self.pending, VIEWS)
        fresh.shares.used_s.clear()
        fresh.shares.used_s.update(self.pending.shares.used_s)
        return fresh

    @rule(start_s=st.sampled_from([-0.1, 0.0, 0.05, 0.2]))
    def look_for_what_is_missed(self, start_s: float) -> None:
        """Lines whose first job takes longer than it has."""
        at_s = NOW_S + start_s
        found = self.pending.missing(Forecast().at(self.costs, NOW_S), at_s)
        firsts = [line.jobs[0] for line in self.pending.lines()]
        assert {line.jobs[0] for line in found} == {
            job
            for job in firsts
            if at_s + self.costs.compute_s(job.function, job.rows) > job.deadline_s
        }

    @invariant()
    def is_sound(self) -> None:
        """Each line is in its row, and looks as in a queue that was never looked at."""
        self.pending.check_integrity()
        forecast = Forecast().at(self.costs, NOW_S)
        for start_s in (0.0, 0.2):
            kept, expected = (
                seen(pending, forecast, NOW_S + start_s) for pending in (self.pending, self.fresh())
            )
            assert kept == expected


TestDeciding = Deciding.TestCase
TestDeciding.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_lines_grow_past_their_columns() -> None:
    """And shrink again; rows of those that are left stay right."""
    refs = [FunctionRef(f"f{k}", 1) for k in range(200)]
    pending = Pending()
    pending.functions.update(dict.fromkeys(refs, FUNCTIONS[REFS[0]]))
    jobs = [a_job(k, ref, 1, k / 100, inf, 0) for k, ref in enumerate(refs)]
    for job in jobs:
        pending.add(job)
    forecast = Forecast().at(Costs(), NOW_S)
    assert taken(Turns(pending, forecast, NOW_S - 1, NOW_S)) == jobs
    for job in jobs[::3]:
        pending.remove(job.id)
    pending.check_integrity()
    left = [job for k, job in enumerate(jobs) if k % 3]
    assert taken(Turns(pending, forecast, NOW_S - 1, NOW_S)) == left
