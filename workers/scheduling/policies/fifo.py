"""One job at a time, in order of acceptance: what every other policy is to beat."""

from __future__ import annotations

from collections.abc import Sequence

from workers.scheduling.costs import Costs
from workers.scheduling.groups import Group
from workers.scheduling.pending import Pending
from workers.scheduling.policies.batches import best_worker
from workers.scheduling.records import Dispatch, Limits, PendingJob, Plan, WorkerView


class Fifo:
    """Each job is a group of its own."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def plan(
        self, pending: Pending, workers: Sequence[WorkerView], costs: Costs, now_s: float
    ) -> Plan:
        """Idle workers get the jobs that were accepted first."""
        idle = [view for view in workers if view.free_places > 0 and view.under_way_s is None]
        dispatches: list[Dispatch] = []
        for job in sorted(_first(pending, len(idle)), key=lambda job: job.id):
            able = [view for view in idle if job.function not in view.behind]
            if not able:
                continue
            worker = best_worker(job, able)
            idle.remove(worker)
            group = Group(worker)
            group.add(job)
            dispatches.append(group.dispatch(pending.functions, costs))
        return Plan(dispatches)


def _first(pending: Pending, count: int) -> list[PendingJob]:
    """The first few accepted jobs of every function."""
    return [
        job
        for ref in pending.refs()
        for job in sorted(pending.of(ref), key=lambda job: job.id)[:count]
    ]
