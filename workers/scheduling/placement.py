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


def first_to_end(
    job: PendingJob,
    free: Iterable[WorkerView],
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs | Forecast,
) -> WorkerView:
    """The worker that would end the job first; of equals one with the weights, and most places.

    A function larger than the budget is read anew by every run.
    """
    candidates: Sequence[WorkerView] = list(free)
    if len(candidates) == 1:
        return candidates[0]
    ref, weight_bytes = job.function, functions[job.function].weight_bytes
    compute_s, swap_s = costs.compute_s(ref, job.rows), costs.swap_s(weight_bytes)

    def rank(worker: WorkerView) -> tuple[float, bool, int]:
        is_cold = ref not in worker.resident
        end_s = worker.free_in_s + compute_s / worker.speed
        if is_cold or weight_bytes > worker.budget_bytes:
            end_s += swap_s
        return end_s, is_cold, -worker.free_places

    return min(candidates, key=rank)
