"""What a policy asks of the cost model, remembered for one decision: it asks the same often."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.records import FunctionView, WorkerView

# Activations of a version never change; this only bounds what is remembered.
KEEP_S = 60.0


class Forecast:
    """Predictions of one policy."""

    __slots__ = ("_activations", "_costs", "_since_s", "compute_s")

    # predicted compute time of one member: bound anew for each decision, for it is asked most
    compute_s: Callable[[FunctionRef, int], float]

    def __init__(self) -> None:
        self._costs: Costs | None = None
        self._since_s = -inf
        self._activations: dict[tuple[FunctionRef, int], int] = {}

    def at(self, costs: Costs, now_s: float) -> Forecast:
        """Ask this cost model as it is now; for one decision."""
        self._costs, self.compute_s = costs, costs.compute_s
        if not 0 <= now_s - self._since_s < KEEP_S:
            self._since_s = now_s
            self._activations.clear()
        return self

    @property
    def costs(self) -> Costs:
        """The cost model that is asked."""
        assert self._costs is not None
        return self._costs

    @property
    def revision(self) -> int:
        """How often its compute times have changed."""
        return self.costs.revisions.count

    def revised(self, since: int) -> Sequence[FunctionRef] | None:
        """Functions whose compute times are others than at that revision; None: any may be."""
        return self.costs.revisions.since(since)

    def group_s(self, rows: Mapping[FunctionRef, int], worker: WorkerView) -> float:
        """Predicted compute time of a group, what its members add to each other included."""
        assert self._costs is not None
        return self._costs.group_s(rows, worker)

    def knows_together(self, members: int, worker: WorkerView) -> bool:
        """Whether groups of so many members have run on as many lanes."""
        assert self._costs is not None
        return self._costs.knows_together(members, worker)

    def swap_s(self, swap_bytes: int) -> float:
        """Predicted time to bring in weights."""
        return self.costs.swap_s(swap_bytes)

    def is_measured(self, ref: FunctionRef) -> bool:
        """Whether the function has run, so that its times are more than a guess."""
        return self.costs.is_measured(ref)

    def activation_bytes(self, ref: FunctionRef, rows: int, view: FunctionView) -> int:
        """Activation peak of a run of so many rows."""
        found = self._activations.get((ref, rows))
        if found is None:
            found = self._activations[ref, rows] = view.activation_bytes_at(rows)
        return found
