"""What the published policies have in common: a group is a batch of one function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workers.scheduling.costs import Costs
from workers.scheduling.groups import Group
from workers.scheduling.pending import Pending
from workers.scheduling.records import Dispatch, FunctionView, Limits, PendingJob, WorkerView


def batch_of(
    jobs: Sequence[PendingJob], view: FunctionView, rows: int, limits: Limits
) -> list[PendingJob]:
    """The first jobs of one function, up to so many rows and what may be joined; one at least."""
    if not view.is_batchable:
        return list(jobs[:1])
    taken = [jobs[0]]
    left = min(rows, view.max_batch) - jobs[0].rows
    for job in jobs[1 : limits.jobs]:
        if job.rows > left:
            break
        taken.append(job)
        left -= job.rows
    return taken


def full_batch(view: FunctionView, rows: int) -> int:
    """Rows of a batch that need not wait for more."""
    return min(rows, view.max_batch) if view.is_batchable else 1


def best_worker(job: PendingJob, free: Iterable[WorkerView]) -> WorkerView:
    """The worker that has the weights, then the one with most free places.

    The published policies know devices of one kind and no costs of weights; `first_to_end` does.
    """
    return max(free, key=lambda w: (job.function in w.resident, w.free_places))


class Places:
    """Free places, as batches are sent to them."""

    def __init__(self, workers: Iterable[WorkerView]) -> None:
        self._left = {view.id: view.free_places for view in workers if view.free_places > 0}
        self._views = {view.id: view for view in workers}
        self.dispatches: list[Dispatch] = []

    def __bool__(self) -> bool:
        return any(self._left.values())

    def send(self, jobs: Sequence[PendingJob], pending: Pending, costs: Costs) -> bool:
        """Send a batch where there is a place, to an idle worker first; whether there was one."""
        able = [
            self._views[worker]
            for worker, left in self._left.items()
            if left and jobs[0].function not in self._views[worker].behind
        ]
        if not able:
            return False
        idle = [view for view in able if view.under_way_s is None and self._is_unused(view)]
        worker = best_worker(jobs[0], idle or able)
        self._left[worker.id] -= 1
        group = Group(worker)
        for job in jobs:
            group.add(job)
        self.dispatches.append(group.dispatch(pending.functions, costs))
        return True

    def _is_unused(self, view: WorkerView) -> bool:
        return self._left[view.id] == view.free_places
