"""The default policy: deadlines first, groups over all functions, no place idle.

Work-conserving: a worker that has nothing gets a group at once, so groups grow by themselves while
devices are busy. A worker that has a group gets the next one ahead only where that hides something:
hooks, weights that come in, or the way to the worker behind a long run; else the group is better
left to grow. A group is filled from the first job outward, in the order of `order.py` and across
functions, while every member is still predicted to meet its deadline and the bytes fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.groups import Group, hides_something
from workers.scheduling.order import in_order
from workers.scheduling.pending import Pending
from workers.scheduling.placement import first_to_end
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


class LeastLaxity:
    """The default policy."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def plan(
        self, pending: Pending, workers: Sequence[WorkerView], costs: Costs, now_s: float
    ) -> Plan:
        """Groups for every place that is worth filling.

        A function too large for a worker's budget goes to that worker alone, which runs it in
        blocks, or says what bytes it would need.
        """
        functions, used_s = pending.functions, pending.shares.used_s
        dispatches: list[Dispatch] = []
        free = [worker for worker in workers if worker.free_places > 0]
        if not free:
            return Plan(dispatches)
        most = LOOK_AHEAD * sum(worker.free_places for worker in free)
        start_s = now_s + min(worker.under_way_s or 0.0 for worker in free)
        known = (job for ref in pending.refs() for job in pending.of(ref))
        waiting = in_order(known, costs, used_s, start_s, most)
        while waiting and free:
            first = waiting[0].function
            able = [worker for worker in free if first not in worker.behind]
            if not able:
                waiting = [job for job in waiting if job.function != first]
                continue
            worker = first_to_end(waiting[0], able, functions, costs)
            free.remove(worker)
            group = self._fill(_able_to_run(waiting, worker), worker, functions, costs, now_s)
            if worker.under_way_s is not None and not hides_something(group, functions):
                continue
            dispatch = group.dispatch(functions, costs)
            dispatches.append(dispatch)
            taken = {job.id for job in group.jobs}
            waiting = [job for job in waiting if job.id not in taken]
            if worker.free_places > 1:
                free.append(_with_group(worker, dispatch.predicted_s))
        return Plan(dispatches)

    def _fill(
        self,
        waiting: list[PendingJob],
        worker: WorkerView,
        functions: Mapping[FunctionRef, FunctionView],
        costs: Costs,
        now_s: float,
    ) -> Group:
        """The first job, whatever it costs, and those after it that fit beside it."""
        group = Group(worker, self._limits, now_s)
        group.add(waiting[0])
        for job in waiting[1:]:
            if len(group.jobs) >= self._limits.jobs:
                break
            if group.can_hold(job, functions, costs):
                group.add(job)
        return group


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
