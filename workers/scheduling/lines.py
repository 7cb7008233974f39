"""The jobs of one version and one priority that wait."""

from __future__ import annotations

from bisect import bisect_left

from contract.function import FunctionRef
from contract.job import JobId
from workers.scheduling.records import PendingJob

Urgency = tuple[int, float, JobId]


def urgency(job: PendingJob) -> Urgency:
    """Higher priority first, then what is due first, then what was accepted first (by id)."""
    return -job.priority, job.due_at_s, job.id


class Line:
    """Jobs in order of due time; plain lists, for bisect reads them fastest."""

    __slots__ = ("gap_rows", "jobs", "late", "order", "priority", "ref", "row", "rows", "work_s")

    def __init__(self, ref: FunctionRef, priority: int) -> None:
        self.ref, self.priority = ref, priority
        self.jobs: list[PendingJob] = []
        # the urgency of each job
        self.order: list[Urgency] = []
        # how many were late when it was looked at, and its row among the heads; see heads.py
        self.late = self.row = 0
        # of all its jobs
        self.rows = 0
        # of those that wait for a gap (admission.py), and the predicted time of all, in batches
        self.gap_rows, self.work_s = 0, 0.0

    def add(self, job: PendingJob) -> None:
        """A job of this version and priority."""
        key = urgency(job)
        at = bisect_left(self.order, key)
        self.order.insert(at, key)
        self.jobs.insert(at, job)
        self.rows += job.rows

    def remove(self, job: PendingJob) -> None:
        """One that is in it."""
        at = bisect_left(self.order, urgency(job))
        del self.order[at], self.jobs[at]
        self.rows -= job.rows

    def rows_before(self, job: PendingJob) -> int:
        """Rows before one of its jobs; as if all had the mean number."""
        return bisect_left(self.order, urgency(job)) * self.rows // len(self.order)

    def due_before(self, at_s: float) -> int:
        """How many are due before then."""
        return bisect_left(self.order, (-self.priority, at_s))
