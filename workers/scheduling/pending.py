"""The jobs that wait, by function and in order of urgency, as policies look at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sortedcontainers import SortedKeyList

from contract.function import FunctionRef
from contract.job import JobId
from workers.scheduling.records import FunctionView, PendingJob
from workers.scheduling.shares import Shares


def urgency(job: PendingJob) -> tuple[float, JobId]:
    """What is due first, then what was accepted first: ids sort by the time of acceptance."""
    return job.due_at_s, job.id


class Pending:
    """Jobs that wait, what is known of their functions, and the shares these have had.

    A job is added and removed in O(log n). Jobs of a function that is not known yet wait unseen.
    """

    def __init__(self) -> None:
        self.functions: dict[FunctionRef, FunctionView] = {}
        self.shares = Shares()
        self._jobs: dict[JobId, PendingJob] = {}
        self._by_function: dict[FunctionRef, SortedKeyList] = {}
        # functions by name: shares hold over all versions
        self._refs: dict[str, set[FunctionRef]] = {}

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
            self.shares.enter(name, self._refs)
        self._refs.setdefault(name, set()).add(job.function)
        self._jobs[job.id] = job
        own = self._by_function.get(job.function)
        if own is None:
            own = self._by_function[job.function] = SortedKeyList(key=urgency)
        own.add(job)

    def remove(self, job: JobId) -> PendingJob | None:
        """A job waits no longer; None when it did not."""
        known = self._jobs.pop(job, None)
        if known is None:
            return None
        ref = known.function
        own = self._by_function[ref]
        own.remove(known)
        if not own:
            del self._by_function[ref]
            self._refs[ref.name].discard(ref)
            if not self._refs[ref.name]:
                del self._refs[ref.name]
        return known

    def names(self) -> Mapping[str, object]:
        """The functions of which jobs wait, by name."""
        return self._refs

    def count(self, name: str) -> int:
        """Jobs of all versions of a function."""
        return sum(len(self._by_function[ref]) for ref in self._refs.get(name, ()))

    def refs(self) -> Iterator[FunctionRef]:
        """The functions that are known and of which jobs wait."""
        return (ref for ref in self._by_function if ref in self.functions)

    def of(self, ref: FunctionRef) -> Sequence[PendingJob]:
        """Jobs of one version, the most urgent first; a view that changes with the queue."""
        own: Sequence[PendingJob] = self._by_function.get(ref, ())
        return own

    def check_integrity(self) -> None:
        """Raise AssertionError unless every job is filed once, where it belongs."""
        filed = [job for own in self._by_function.values() for job in own]
        assert sorted(job.id for job in filed) == sorted(self._jobs)
        for ref, own in self._by_function.items():
            assert {ref} == {job.function for job in own}
            assert list(own) == sorted(own, key=urgency)
            assert ref in self._refs[ref.name]
        assert {r for refs in self._refs.values() for r in refs} == set(self._by_function)
