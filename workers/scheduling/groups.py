"""A group being filled: what fits into it, what it will take, and on which worker. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.records import (
    Dispatch,
    FunctionView,
    Limits,
    PendingJob,
    WorkerView,
)

# The way of a group from the scheduler to the device and back; less is not hidden by more groups.
SEND_AHEAD_FROM_S = 0.004
# How long before a long run ends the next group is sent: its way, and part of a run's prediction.
LEAD_S = 0.006
LEAD_PART = 0.6
# A group computes no longer than this, unless one job does: whoever comes next waits for its end.
LONG_GROUP_S = 0.25


def best_worker(job: PendingJob, free: Iterable[WorkerView]) -> WorkerView:
    """The worker that has the weights, then the one with most free places."""
    return max(free, key=lambda w: (job.function in w.resident, w.free_places))


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
    limits: Limits
    now_s: float
    jobs: list[PendingJob] = field(default_factory=list)
    rows: dict[FunctionRef, int] = field(default_factory=dict)
    tightest_s: float = float("inf")

    def can_hold(
        self, job: PendingJob, functions: Mapping[FunctionRef, FunctionView], costs: Costs
    ) -> bool:
        """Whether a job may run beside those that are in it, the limits and deadlines kept."""
        view = functions[job.function]
        rows_before = self.rows.get(job.function, 0)
        if rows_before and (not view.is_batchable or rows_before + job.rows > view.max_batch):
            return False
        if not rows_before and len(self.rows) >= self.limits.functions:
            return False
        if not rows_before and (view.is_eager or functions[self.jobs[0].function].is_eager):
            return False
        rows = self.rows | {job.function: rows_before + job.rows}
        if _bytes(rows, self.worker, functions) > self.worker.budget_bytes:
            return False
        compute_s = costs.group_s(rows, self.worker) / self.worker.speed
        if compute_s > LONG_GROUP_S:
            return False
        swap_s = _swap_s(rows, self.worker, functions, costs)
        end_s = self.now_s + (self.worker.under_way_s or 0.0) + swap_s + compute_s
        return end_s <= min(self.tightest_s, job.deadline_s)

    def add(self, job: PendingJob) -> None:
        """Take in a job."""
        self.jobs.append(job)
        self.rows[job.function] = self.rows.get(job.function, 0) + job.rows
        self.tightest_s = min(self.tightest_s, job.deadline_s)

    def dispatch(self, functions: Mapping[FunctionRef, FunctionView], costs: Costs) -> Dispatch:
        """The group as it is."""
        predicted_s = _swap_s(self.rows, self.worker, functions, costs)
        predicted_s += costs.build_s(self.rows, self.worker)
        predicted_s += costs.group_s(self.rows, self.worker) / self.worker.speed
        return Dispatch(self.worker.id, tuple(self.jobs), predicted_s)


def _bytes(
    rows: Mapping[FunctionRef, int],
    worker: WorkerView,
    functions: Mapping[FunctionRef, FunctionView],
) -> float:
    """What the group takes at most.

    Those that are resident side by side are known to fit as they are; a function larger than the
    budget runs alone and in blocks, so its activations count.
    """
    weights = {ref: functions[ref].weight_bytes for ref in rows}
    activations = sum(functions[ref].activation_bytes_at(n) for ref, n in rows.items())
    if len(weights) == 1 and max(weights.values()) > worker.budget_bytes:
        return activations
    resident = sum(size for ref, size in weights.items() if ref in worker.resident)
    cold = sum(size for ref, size in weights.items() if ref not in worker.resident)
    return min(resident, worker.resident_bytes) + cold + activations


def _swap_s(
    rows: Mapping[FunctionRef, int],
    worker: WorkerView,
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs,
) -> float:
    return costs.load_s({ref: functions[ref].weight_bytes for ref in rows}, worker)
