"""The jobs that wait, by function and in order of urgency, as policies look at them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush

from contract.function import FunctionRef
from contract.job import JobId
from workers.scheduling.aims import Aims
from workers.scheduling.forecast import Forecast
from workers.scheduling.heads import Heads
from workers.scheduling.lines import Line, urgency
from workers.scheduling.records import FunctionView, PendingJob
from workers.scheduling.shares import Shares

# A policy looks at no more at once of what came.
ARRIVED = 1024


class Pending:
    """Jobs that wait, what is known of their functions, and the shares these have had.

    A job is added and removed in O(log n) and a move of its line. Jobs of a function that is not
    known yet wait unseen.
    """

    def __init__(self) -> None:
        self.functions: dict[FunctionRef, FunctionView] = {}
        self.shares = Shares()
        # latencies that functions of which jobs came lately aim at
        self.aims = Aims()
        # the latest that came, until the policy takes them
        self._arrived: deque[PendingJob] = deque(maxlen=ARRIVED)
        # what decisions look at of every line
        self.heads = Heads(self.shares)
        self._jobs: dict[JobId, PendingJob] = {}
        # of each version by priority, the highest first
        self._lines: dict[FunctionRef, dict[int, Line]] = {}
        # functions by name: shares hold over all versions
        self._refs: dict[str, set[FunctionRef]] = {}
        # by priority, jobs in order of acceptance, and some that wait no longer
        self._accepted: dict[int, list[JobId]] = {}
        # of all jobs, ascending
        self._dues_s: list[float] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: JobId) -> bool:
        return job in self._jobs

    def __iter__(self) -> Iterator[PendingJob]:
        return iter(self._jobs.values())

    def get(self, job: JobId) -> PendingJob | None:
        """A job, if it waits."""
        return self._jobs.get(job)

    def add(self, job: PendingJob) -> None:
        """A job begins to wait; one that was known is replaced."""
        self.remove(job.id)
        name = job.function.name
        if name not in self._refs:
            self.shares.enter(name)
        self._refs.setdefault(name, set()).add(job.function)
        self._jobs[job.id] = job
        line = self._lines.get(job.function, {}).get(job.priority)
        if line is None:
            line = self._open(job.function, job.priority)
        line.add(job)
        self.heads.touch(line)
        heappush(self._accepted.setdefault(job.priority, []), job.id)
        insort(self._dues_s, job.due_at_s)
        self._arrived.append(job)
        self.aims.note(job.accepted_at_s, job.due_at_s - job.accepted_at_s)

    def take_arrived(self) -> list[PendingJob]:
        """The jobs that came since this was asked, the latest `ARRIVED` at most; some have gone."""
        found = list(self._arrived)
        self._arrived.clear()
        return found

    def remove(self, job: JobId) -> PendingJob | None:
        """A job waits no longer; None when it did not."""
        known = self._jobs.pop(job, None)
        if known is None:
            return None
        line = self._lines[known.function][known.priority]
        line.remove(known)
        if line.jobs:
            self.heads.touch(line)
        else:
            self._close(line)
        self._drop_accepted(known.priority)
        del self._dues_s[bisect_left(self._dues_s, known.due_at_s)]
        return known

    def _open(self, ref: FunctionRef, priority: int) -> Line:
        line = Line(ref, priority)
        others = self._lines.get(ref, {})
        self._lines[ref] = dict(sorted([*others.items(), (priority, line)], reverse=True))
        self.heads.add(line)
        return line

    def _close(self, line: Line) -> None:
        ref = line.ref
        self.heads.remove(line)
        del self._lines[ref][line.priority]
        if self._lines[ref]:
            return
        del self._lines[ref]
        self._refs[ref.name].discard(ref)
        if not self._refs[ref.name]:
            del self._refs[ref.name]
            self.shares.leave(ref.name)

    def _drop_accepted(self, priority: int) -> None:
        """The first of a priority is a job that waits; a priority of which none waits is gone."""
        accepted = self._accepted[priority]
        while accepted and self._priority_of(accepted[0]) != priority:
            heappop(accepted)
        if not accepted:
            del self._accepted[priority]

    def _priority_of(self, job: JobId) -> int | None:
        known = self._jobs.get(job)
        return None if known is None else known.priority

    def names(self) -> Mapping[str, object]:
        """The functions of which jobs wait, by name."""
        return self._refs

    def count(self, name: str) -> int:
        """Jobs of all versions of a function."""
        lines = (line for ref in self._refs.get(name, ()) for line in self._lines[ref].values())
        return sum(len(line.jobs) for line in lines)

    def refs(self) -> Iterator[FunctionRef]:
        """The functions that are known and of which jobs wait."""
        return (ref for ref in self._lines if ref in self.functions)

    def of(self, ref: FunctionRef) -> Sequence[PendingJob]:
        """Jobs of one version, the most urgent first; it may change with the queue."""
        its = self._lines.get(ref, {})
        if len(its) == 1:
            [line] = its.values()
            return line.jobs
        return [job for line in its.values() for job in line.jobs]

    def lines(self) -> Iterator[Line]:
        """The lines of `refs`."""
        functions = self.functions
        return (line for ref, its in self._lines.items() if ref in functions
                for line in its.values())  # fmt: skip

    def line_of(self, ref: FunctionRef, priority: int) -> Line | None:
        """The jobs of one version and priority that wait, if any do."""
        return self._lines.get(ref, {}).get(priority)

    def late(self, forecast: Forecast, start_s: float) -> list[Line]:
        """The lines of `refs` whose first job will be late though it run next, from then."""
        functions = self.functions
        return [line for line in self.heads.late(forecast, start_s) if line.ref in functions]

    def missing(self, forecast: Forecast, start_s: float) -> list[Line]:
        """The lines of `refs` whose first job misses its deadline though it run next, from then."""
        functions = self.functions
        return [it for it in self.heads.missing(forecast, start_s) if it.ref in functions]

    def oldest(self) -> Mapping[int, PendingJob]:
        """Of each priority that waits, the job that was accepted first."""
        return {priority: self._jobs[ids[0]] for priority, ids in self._accepted.items()}

    def priorities(self) -> int:
        """How many different ones wait."""
        return len(self._accepted)

    def due_before(self, at_s: float) -> int:
        """How many jobs are due before then."""
        return bisect_left(self._dues_s, at_s)

    def check_integrity(self) -> None:
        """Raise AssertionError unless every job is filed once, where it belongs."""
        lines = [line for its in self._lines.values() for line in its.values()]
        assert sorted(job.id for line in lines for job in line.jobs) == sorted(self._jobs)
        for line in lines:
            assert {(line.ref, line.priority)} == {(j.function, j.priority) for j in line.jobs}
            assert line.order == sorted(urgency(job) for job in line.jobs)
            assert line.order == [urgency(job) for job in line.jobs]
            assert line.ref in self._refs[line.ref.name]
            assert line is self._lines[line.ref][line.priority]
        for its in self._lines.values():
            assert [*its] == sorted(its, reverse=True)
        self.heads.check_integrity(lines)
        assert {r for refs in self._refs.values() for r in refs} == set(self._lines)
        for priority, first in self.oldest().items():
            assert first.id == min(j.id for j in self if j.priority == priority)
        assert self._dues_s == sorted(job.due_at_s for job in self)
        assert set(self._accepted) == {job.priority for job in self}
