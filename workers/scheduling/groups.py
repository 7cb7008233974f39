"""A group: its jobs, what it will take, and when it is worth while to send it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.records import Dispatch, FunctionView, PendingJob, WorkerView

# The way of a group from the scheduler to the device and back; less is not hidden by more groups.
SEND_AHEAD_FROM_S = 0.004
# How long before a long run ends the next group is sent: its way, and part of a run's prediction.
LEAD_S = 0.006
LEAD_PART = 0.6
# A group computes no longer than this, unless one job does: whoever comes next waits for its end.
LONG_GROUP_S = 0.25


def can_start(workers: Iterable[WorkerView]) -> bool:
    """Whether a job that comes now might go to a worker at once, rather than wait for a signal.

    Behind a short run it might not, nor long before the end of a long one; should it bring hooks
    or weights, that is soon looked at.
    """
    return any(view.free_places > 0 and _may_be_sent(view) for view in workers)


def _may_be_sent(view: WorkerView) -> bool:
    if view.under_way_s is None:
        return True
    if view.remaining_s is not None and view.remaining_s > _lead_s(view):
        return False
    return view.under_way_s >= SEND_AHEAD_FROM_S


def _lead_s(view: WorkerView) -> float:
    """How long before the end of what a worker has its next group is sent, were it known well."""
    return LEAD_S + LEAD_PART * (view.under_way_s or 0.0)


def sent_ahead_in_s(
    ref: FunctionRef, function: FunctionView, worker: WorkerView, swap_s: float
) -> float:
    """When it is worth while to send a group that begins with this function to a busy worker.

    Seconds from now; infinite where its next place is better waited for. Sooner than needed to hide
    hooks, weights and the way there, the group would only miss what comes until then.
    """
    assert worker.under_way_s is not None
    if function.has_hooks:
        return 0.0
    is_cold = ref not in worker.resident
    if not is_cold and worker.under_way_s < SEND_AHEAD_FROM_S:
        return inf
    if worker.remaining_s is None:
        return 0.0
    return max(0.0, worker.remaining_s - _lead_s(worker) - (swap_s if is_cold else 0.0))


@dataclass(slots=True)
class Group:
    """Jobs that are to run together on a worker."""

    worker: WorkerView
    jobs: list[PendingJob] = field(default_factory=list)
    rows: dict[FunctionRef, int] = field(default_factory=dict)

    def add(self, job: PendingJob) -> None:
        """Take in a job."""
        self.jobs.append(job)
        self.rows[job.function] = self.rows.get(job.function, 0) + job.rows

    def dispatch(self, functions: Mapping[FunctionRef, FunctionView], costs: Costs) -> Dispatch:
        """The group as it is."""
        predicted_s = _swap_s(self.rows, self.worker, functions, costs)
        predicted_s += costs.build_s(self.rows, self.worker)
        predicted_s += costs.group_s(self.rows, self.worker) / self.worker.speed
        return Dispatch(self.worker.id, tuple(self.jobs), predicted_s)


def _swap_s(
    rows: Mapping[FunctionRef, int],
    worker: WorkerView,
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs,
) -> float:
    return costs.load_s({ref: functions[ref].weight_bytes for ref in rows}, worker)
