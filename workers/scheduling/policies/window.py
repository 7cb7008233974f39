"""Dynamic batching as Triton's batcher does it: a preferred batch at once, others after a delay.

Each model has a queue. As soon as one has a preferred number of rows, the largest such batch is
sent; what is less is sent when its oldest request has waited for the delay. A batch has one model.
Source: Triton Inference Server, model configuration, `dynamic_batching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from workers.scheduling.costs import Costs
from workers.scheduling.pending import Pending
from workers.scheduling.policies.batches import Places, batch_of, full_batch
from workers.scheduling.records import FunctionView, Limits, PendingJob, Plan, WorkerView

PREFERRED_ROWS = (4, 8, 16)
DELAY_S = 0.005


class Window:
    """Batches of preferred sizes, within a delay."""

    def __init__(
        self,
        limits: Limits,
        preferred_rows: Sequence[int] = PREFERRED_ROWS,
        delay_s: float = DELAY_S,
    ) -> None:
        self._limits = limits
        self._preferred = sorted(preferred_rows, reverse=True)
        self._delay_s = delay_s

    def plan(
        self, pending: Pending, workers: Sequence[WorkerView], costs: Costs, now_s: float
    ) -> Plan:
        """Batches that are large or old enough, the oldest first."""
        places = Places(workers)
        wake_at_s = inf
        queues = [list(pending.of(ref)) for ref in pending.refs()]
        queues.sort(key=_oldest_s)
        for jobs in queues:
            view = pending.functions[jobs[0].function]
            while jobs and places:
                at_s = _oldest_s(jobs) + self._delay_s
                rows = self._rows(jobs, view, is_due=at_s <= now_s)
                if not rows:
                    wake_at_s = min(wake_at_s, at_s)
                    break
                batch = batch_of(jobs, view, rows, self._limits)
                if not places.send(batch, pending, costs):
                    break
                del jobs[: len(batch)]
        return Plan(places.dispatches, wake_at_s=wake_at_s)

    def _rows(self, jobs: Sequence[PendingJob], view: FunctionView, *, is_due: bool) -> int:
        """Rows of the batch to send now; 0: wait for more."""
        waiting = sum(job.rows for job in jobs)
        for rows in self._preferred:
            if waiting >= full_batch(view, rows):
                return rows
        return waiting if is_due else 0


def _oldest_s(jobs: Sequence[PendingJob]) -> float:
    return min(job.accepted_at_s for job in jobs)
