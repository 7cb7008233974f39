"""The policy: a pure function from what waits and what is free to what runs now.

Work-conserving: a worker that has nothing gets a group at once, so groups grow by themselves while
devices are busy. A worker that has a group gets the next one ahead only where that hides something:
hooks, weights that come in, or the way to the worker behind a long run; else the group is better
left to grow. A group is filled from the first job outward, in the order of `order.py` and across
functions, while every member is still predicted to meet its deadline and the bytes fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.order import in_order
from workers.scheduling.records import (
    Dispatch,
    FunctionView,
    Limits,
    PendingJob,
    Plan,
    WorkerView,
)

# The first jobs looked at for one group: bounds a decision's time under a long queue.
LOOK_AHEAD = 512
# The way of a group from the scheduler to the device and back; less is not hidden by more groups.
SEND_AHEAD_FROM_S = 0.004
# A group computes no longer than this, unless one job does: whoever comes next waits for its end.
LONG_GROUP_S = 0.25
_NOTHING_USED: Mapping[str, float] = MappingProxyType({})


def plan(
    pending: Iterable[PendingJob],
    workers: Iterable[WorkerView],
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs,
    limits: Limits,
    now_s: float,
    used_s: Mapping[str, float] = _NOTHING_USED,
) -> Plan:
    """Groups to start now, and jobs whose deadline has passed.

    `used_s`: device seconds that functions have had, by name (`shares.py`).
    Jobs of functions that are not in `functions` wait; a function too large for a worker's budget
    goes to that worker alone, which runs it in blocks, or says what bytes it would need.
    """
    alive: list[PendingJob] = []
    expired: list[PendingJob] = []
    for job in pending:
        (expired if job.deadline_s <= now_s else alive).append(job)
    dispatches: list[Dispatch] = []
    free = [worker for worker in workers if worker.free_places > 0]
    if not free:
        return Plan(dispatches, expired)
    known = (job for job in alive if job.function in functions)
    most = LOOK_AHEAD * sum(worker.free_places for worker in free)
    start_s = now_s + min(worker.under_way_s or 0.0 for worker in free)
    waiting = in_order(known, costs, used_s, start_s, most)
    while waiting and free:
        first = waiting[0].function
        able = [worker for worker in free if first not in worker.behind]
        if not able:
            waiting = [job for job in waiting if job.function != first]
            continue
        worker = _best_worker(waiting[0], able)
        free.remove(worker)
        group = _fill(_able_to_run(waiting, worker), worker, functions, costs, limits, now_s)
        if worker.under_way_s is not None and not _hides_something(group, functions):
            continue
        predicted_s = _swap_s(group.rows, worker, functions, costs)
        predicted_s += _compute_s(group.rows, costs)
        dispatches.append(Dispatch(worker.id, tuple(group.jobs), predicted_s))
        taken = {job.id for job in group.jobs}
        waiting = [job for job in waiting if job.id not in taken]
        if worker.free_places > 1:
            free.append(_with_group(worker, predicted_s))
    return Plan(dispatches, expired)


def can_start(workers: Iterable[WorkerView]) -> bool:
    """Whether a job that comes now might go to a worker at once, rather than wait for a signal.

    Behind a short run it might not; should it bring hooks or weights, that run is soon over.
    """
    return any(
        view.free_places > 0 and (view.under_way_s is None or view.under_way_s >= SEND_AHEAD_FROM_S)
        for view in workers
    )


def _best_worker(job: PendingJob, free: list[WorkerView]) -> WorkerView:
    """The worker that has the weights, then the one with most free places."""
    return max(free, key=lambda w: (job.function in w.resident, w.free_places))


def _able_to_run(waiting: list[PendingJob], worker: WorkerView) -> list[PendingJob]:
    """The most urgent jobs that this worker may have."""
    if worker.behind:
        waiting = [job for job in waiting if job.function not in worker.behind]
    return waiting[:LOOK_AHEAD]


def _with_group(worker: WorkerView, predicted_s: float) -> WorkerView:
    return replace(
        worker,
        free_places=worker.free_places - 1,
        under_way_s=(worker.under_way_s or 0.0) + predicted_s,
    )


@dataclass(slots=True)
class _Group:
    """A group being filled."""

    worker: WorkerView
    limits: Limits
    now_s: float
    jobs: list[PendingJob] = field(default_factory=list)
    rows: dict[FunctionRef, int] = field(default_factory=dict)
    tightest_s: float = float("inf")

    def can_hold(
        self, job: PendingJob, functions: Mapping[FunctionRef, FunctionView], costs: Costs
    ) -> bool:
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
        compute_s = _compute_s(rows, costs)
        if compute_s > LONG_GROUP_S:
            return False
        swap_s = _swap_s(rows, self.worker, functions, costs)
        end_s = self.now_s + (self.worker.under_way_s or 0.0) + swap_s + compute_s
        return end_s <= min(self.tightest_s, job.deadline_s)

    def add(self, job: PendingJob) -> None:
        self.jobs.append(job)
        self.rows[job.function] = self.rows.get(job.function, 0) + job.rows
        self.tightest_s = min(self.tightest_s, job.deadline_s)


def _fill(
    waiting: list[PendingJob],
    worker: WorkerView,
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs,
    limits: Limits,
    now_s: float,
) -> _Group:
    """The first job, whatever it costs, and those after it that fit beside it."""
    group = _Group(worker, limits, now_s)
    group.add(waiting[0])
    for job in waiting[1:]:
        if len(group.jobs) >= limits.jobs:
            break
        if group.can_hold(job, functions, costs):
            group.add(job)
    return group


def _hides_something(group: _Group, functions: Mapping[FunctionRef, FunctionView]) -> bool:
    worker = group.worker
    assert worker.under_way_s is not None
    return worker.under_way_s >= SEND_AHEAD_FROM_S or any(
        functions[ref].has_hooks or ref not in worker.resident for ref in group.rows
    )


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


def _compute_s(rows: Mapping[FunctionRef, int], costs: Costs) -> float:
    return sum(costs.compute_s(ref, n) for ref, n in rows.items())


def _swap_s(
    rows: Mapping[FunctionRef, int],
    worker: WorkerView,
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs,
) -> float:
    cold_bytes = sum(functions[ref].weight_bytes for ref in rows if ref not in worker.resident)
    return costs.swap_s(cold_bytes)
