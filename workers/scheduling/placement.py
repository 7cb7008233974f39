"""On which worker a group ends first: what is under way, then weights, then arithmetic. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import exp, log, sqrt
from typing import NamedTuple

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.forecast import Forecast
from workers.scheduling.records import FunctionView, PendingJob, WorkerView

# Measurements of one machine differ by this much from start to start: that is no other speed.
SAME_SPEED = 0.1


class Measured(NamedTuple):
    """What a worker measured of its device when it started; 0 where it did not."""

    flops: float
    memory_bytes_per_s: float

    @property
    def power(self) -> float:
        """One number for both: models are bound by either."""
        return sqrt(self.flops * self.memory_bytes_per_s)


def relative_speeds(workers: Mapping[str, Measured]) -> dict[str, float]:
    """Speed by worker, 1 being the geometric mean of those that measured theirs.

    Costs are learned from all workers together, so they are those of the mean. Who has not
    measured, and who differs from the mean as repeated measurements do, counts as 1.
    """
    powers = {worker: its.power for worker, its in workers.items() if its.power > 0}
    mean = exp(sum(map(log, powers.values())) / len(powers)) if powers else 1.0
    speeds = {worker: powers.get(worker, mean) / mean for worker in workers}
    return {w: 1.0 if abs(speed - 1) <= SAME_SPEED else speed for w, speed in speeds.items()}


def end_in_s(
    rows: Mapping[FunctionRef, int],
    worker: WorkerView,
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs | Forecast,
) -> float:
    """When a group of so many rows of each function would have ended there, from now.

    A function larger than the budget is read anew by every run.
    """
    compute_s = sum(costs.compute_s(ref, n) for ref, n in rows.items())
    cold_bytes = sum(
        functions[ref].weight_bytes
        for ref in rows
        if ref not in worker.resident or functions[ref].weight_bytes > worker.budget_bytes
    )
    return worker.free_in_s + costs.swap_s(cold_bytes) + compute_s / worker.speed


def first_to_end(
    job: PendingJob,
    free: Iterable[WorkerView],
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs | Forecast,
) -> WorkerView:
    """The worker that would end the job first; of equals one with the weights, and most places."""
    rows = {job.function: job.rows}

    def rank(worker: WorkerView) -> tuple[float, bool, int]:
        end_s = end_in_s(rows, worker, functions, costs)
        return end_s, job.function not in worker.resident, -worker.free_places

    candidates: Sequence[WorkerView] = list(free)
    return candidates[0] if len(candidates) == 1 else min(candidates, key=rank)
