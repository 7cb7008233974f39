"""What the agent sees of one function and the worker that would run it.

BCEdge's state is model type, input shape, SLO, queue and resources. A platform meets functions that
no training knew, so a model is described by what sets it apart for a scheduler, its bytes and
times, not by a number; the bytes that one row keeps alive stand for the shape of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, log1p
from typing import NamedTuple

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.policies.bcedge.grid import BATCHES
from workers.scheduling.records import FunctionView, PendingJob, WorkerView

FEATURES = (
    # the model
    "log_weight_bytes",
    "log_row_bytes",
    "log_compute_s",
    "batching_gain",
    "log_max_batch",
    # its SLO, and the part of it that the most urgent job has left
    "log_slo_s",
    "slack",
    # the queue: its own, the others', and the time that its own takes as a part of the SLO
    "log_rows",
    "log_rows_of_others",
    "load",
    # resources of the worker
    "free_places",
    "own_groups",
    "other_groups",
    "under_way",
    "swap",
    "free_bytes",
)
# A batch that is not full is sent when its oldest job has waited for this part of its SLO,
SLOT_SHARE = 0.1
# and never later than this: BCEdge's scheduling slot.
SLOT_S = 0.05


class Look(NamedTuple):
    """A function with jobs that wait, and the worker that would run them."""

    ref: FunctionRef
    view: FunctionView
    worker: WorkerView
    # the most urgent ones, most urgent first
    jobs: Sequence[PendingJob]
    # of all that wait
    rows: int
    rows_of_others: int
    now_s: float

    @property
    def slo_s(self) -> float:
        """Of the most urgent job: from acceptance until it is due."""
        first = self.jobs[0]
        return max(first.due_at_s - first.accepted_at_s, 1e-3)

    @property
    def own_groups(self) -> int:
        """Groups of this function that the worker has: BCEdge's concurrent instances."""
        return self.worker.groups_of.get(self.ref.name, 0)

    @property
    def all_groups(self) -> int:
        """Groups that the worker has."""
        return sum(self.worker.groups_of.values())

    @property
    def under_way_s(self) -> float:
        """Predicted time of the groups that the worker has."""
        return self.worker.under_way_s or 0.0

    @property
    def free_share(self) -> float:
        """Part of the worker's budget that nothing takes."""
        return max(0.0, 1 - self.worker.resident_bytes / max(self.worker.budget_bytes, 1))

    @property
    def send_by_s(self) -> float:
        """When to wait no longer for a batch to fill."""
        accepted_s = min(job.accepted_at_s for job in self.jobs)
        return accepted_s + min(SLOT_SHARE * self.slo_s, SLOT_S)

    def swap_s(self, costs: Costs) -> float:
        """Predicted time to bring its weights in."""
        is_cold = self.ref not in self.worker.resident
        return costs.swap_s(self.view.weight_bytes) if is_cold else 0.0

    def alone_s(self, costs: Costs) -> list[float]:
        """Predicted time of each batch size of the grid on a worker that does nothing else."""
        swap_s = self.swap_s(costs)
        return [swap_s + costs.compute_s(self.ref, batch) for batch in BATCHES]


def features(look: Look, costs: Costs) -> list[float]:
    """The state, by `FEATURES`."""
    row_s = max(costs.compute_s(look.ref, 1), 1e-6)
    batch_s = max(costs.compute_s(look.ref, 8), 1e-6)
    slack_s = look.jobs[0].due_at_s - look.now_s
    return [
        log1p(look.view.weight_bytes),
        log1p(look.view.activation_bytes_at(1)),
        log(row_s),
        batch_s / (8 * row_s),
        log(look.view.max_batch),
        log(look.slo_s),
        max(-2.0, min(1.0, slack_s / look.slo_s)),
        log1p(look.rows),
        log1p(look.rows_of_others),
        log1p(look.rows * batch_s / 8 / look.slo_s),
        log1p(look.worker.free_places),
        float(look.own_groups),
        float(look.all_groups - look.own_groups),
        log1p(look.under_way_s / look.slo_s),
        log1p(look.swap_s(costs) / look.slo_s),
        look.free_share,
    ]
