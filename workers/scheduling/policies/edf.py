"""Earliest deadline first over time windows, as DeepRT has it (Yang et al., SEC 2021).

Requests of a model that come within a window, half of the latency they aim at, become one batch
when the window ends; batches run in the order of their earliest due time, not preempted. Admission
control plays that order ahead with worst-case times and refuses the latest requests of a batch that
would be late. Requests of models that were never measured are admitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, inf
from typing import NamedTuple

from workers.scheduling.costs import Costs
from workers.scheduling.pending import Pending
from workers.scheduling.policies.batches import Places, batch_of
from workers.scheduling.records import Limits, PendingJob, Plan, Refusal, WorkerView

WINDOW_SHARE = 0.5
# of runs that take at most the "worst-case" time
WORST_QUANTILE = 0.99
LEAST_WINDOW_S = 0.001


class _Batch(NamedTuple):
    """Requests of one window; sorts by due time."""

    due_at_s: float
    # when its window ends
    release_at_s: float
    jobs: list[PendingJob]


class Edf:
    """Windows, admission, earliest deadline first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def plan(
        self, pending: Pending, workers: Sequence[WorkerView], costs: Costs, now_s: float
    ) -> Plan:
        """Batches whose windows have ended, and requests that are not admitted."""
        batches = sorted(self._batches(pending), key=lambda batch: batch.due_at_s)
        refused = _admit(batches, workers, costs, now_s)
        places = Places(workers)
        wake_at_s = inf
        for batch in batches:
            if not batch.jobs:
                continue
            if batch.release_at_s > now_s:
                wake_at_s = min(wake_at_s, batch.release_at_s)
            elif places:
                places.send(batch.jobs, pending, costs)
        return Plan(places.dispatches, refused, wake_at_s)

    def _batches(self, pending: Pending) -> list[_Batch]:
        found: list[_Batch] = []
        for ref in pending.refs():
            view = pending.functions[ref]
            windows: dict[float, list[PendingJob]] = {}
            for job in pending.of(ref):
                windows.setdefault(_release_at_s(job), []).append(job)
            for release_at_s, jobs in windows.items():
                while jobs:
                    batch = batch_of(jobs, view, view.max_batch, self._limits)
                    due_at_s = min(job.due_at_s for job in batch)
                    found.append(_Batch(due_at_s, release_at_s, batch))
                    jobs = jobs[len(batch) :]
        return found


def _release_at_s(job: PendingJob) -> float:
    """The end of the window in which it came; windows of a length follow each other from 0."""
    window_s = max(LEAST_WINDOW_S, WINDOW_SHARE * (job.due_at_s - job.accepted_at_s))
    return (floor(job.accepted_at_s / window_s) + 1) * window_s


def _admit(
    batches: Sequence[_Batch], workers: Sequence[WorkerView], costs: Costs, now_s: float
) -> list[Refusal]:
    """Requests that would be late in this order; they are taken out of their batches."""
    refused: list[Refusal] = []
    free_at_s = sorted(now_s + worker.free_in_s for worker in workers)
    if not free_at_s:
        return refused
    for batch in batches:
        start_s = max(free_at_s[0], batch.release_at_s)
        ref = batch.jobs[0].function
        end_s = start_s + _worst_s(batch, costs)
        while batch.jobs and end_s > batch.due_at_s and costs.is_measured(ref):
            refused.append(Refusal(batch.jobs.pop(), end_s, "not_admitted"))
            end_s = start_s + _worst_s(batch, costs)
        if batch.jobs:
            free_at_s[0] = end_s
            free_at_s.sort()
    return refused


def _worst_s(batch: _Batch, costs: Costs) -> float:
    if not batch.jobs:
        return 0.0
    rows = sum(job.rows for job in batch.jobs)
    return costs.compute_s(batch.jobs[0].function, rows, WORST_QUANTILE)
