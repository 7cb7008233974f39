"""The jobs that wait, as a state machine beside a plain dictionary."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contract.function import FunctionRef
from contract.job import JobId
from tests.unit.scheduling.test_policy import FUNCTIONS
from workers.scheduling.pending import Pending, urgency
from workers.scheduling.records import PendingJob

REFS = [*FUNCTIONS, FunctionRef("a", 2), FunctionRef("unknown", 1)]
IDS = st.integers(0, 8).map(lambda number: JobId(f"{number:024d}"))


class Waiting(RuleBasedStateMachine):
    """Jobs come, come again, and go."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending()
        self.pending.functions.update(FUNCTIONS)
        self.model: dict[JobId, PendingJob] = {}

    @rule(job=st.builds(PendingJob, IDS, st.sampled_from(REFS), st.just(1), st.floats(0, 3)
                        , st.just(9.0), st.just(0.0), st.integers(0, 2)))  # fmt: skip
    def add(self, job: PendingJob) -> None:
        """A job that is known is replaced."""
        self.pending.add(job)
        self.model[job.id] = job

    @rule(job=IDS)
    def remove(self, job: JobId) -> None:
        """Whether it waits or not."""
        assert self.model.pop(job, None) == self.pending.remove(job)
        assert job not in self.pending

    @invariant()
    def agrees(self) -> None:
        """All jobs, by function and by urgency; those of unknown functions are not shown."""
        self.pending.check_integrity()
        assert dict(self.model) == {job.id: job for job in self.pending}
        jobs = self.model.values()
        assert {job.function.name for job in jobs} == set(self.pending.names())
        assert {job.function for job in jobs} & set(FUNCTIONS) == set(self.pending.refs())
        for ref in REFS:
            own = sorted((job for job in jobs if job.function == ref), key=urgency)
            assert own == list(self.pending.of(ref))
        assert self.pending.priorities() == len({job.priority for job in jobs})
        for line in self.pending.lines():
            assert line.jobs == [
                job for job in self.pending.of(line.ref) if job.priority == line.priority
            ]
        assert sum(job.function.name == "a" for job in jobs) == self.pending.count("a")


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
