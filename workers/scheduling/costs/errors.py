"""How far predictions were off: absolute errors, relative to what was measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from contract.function import FunctionRef
from contract.store.telemetry import COMPUTE, TOTAL, PredictionError
from workers.scheduling.costs.samples import quantile_of

# Groups that a figure rests on.
GROUPS = 512
GROUPS_OF_FUNCTION = 64


class Errors(NamedTuple):
    """Of the latest groups; a figure is missing while no group has ended."""

    # of their time on the device, and with swap and build before it
    compute: PredictionError | None
    total: PredictionError | None
    # of the compute time of groups that a function was in
    functions: dict[str, PredictionError]

    def as_fields(self) -> dict[str, PredictionError]:
        """As they are published: COMPUTE, TOTAL, and by NAME@VERSION."""
        figures = {COMPUTE: self.compute, TOTAL: self.total}
        return {name: it for name, it in figures.items() if it is not None} | self.functions


@dataclass
class ErrorLog:
    """Relative errors of the newest groups."""

    compute: deque[float] = field(default_factory=lambda: deque(maxlen=GROUPS))
    total: deque[float] = field(default_factory=lambda: deque(maxlen=GROUPS))
    functions: dict[FunctionRef, deque[float]] = field(default_factory=dict)

    def note_compute(
        self, refs: Iterable[FunctionRef], predicted_s: float, measured_s: float
    ) -> None:
        """A group has computed."""
        if measured_s <= 0:
            return
        error = abs(predicted_s - measured_s) / measured_s
        self.compute.append(error)
        for ref in refs:
            self.functions.setdefault(ref, deque(maxlen=GROUPS_OF_FUNCTION)).append(error)

    def note_total(self, predicted_s: float, measured_s: float) -> None:
        """A group has ended, of which the policy had predicted this."""
        if measured_s > 0:
            self.total.append(abs(predicted_s - measured_s) / measured_s)

    def forget(self, ref: FunctionRef) -> None:
        """A version is removed."""
        self.functions.pop(ref, None)

    def summary(self) -> Errors:
        """The figures now."""
        functions = {str(ref): _summed(its) for ref, its in self.functions.items()}
        return Errors(
            _summed(self.compute),
            _summed(self.total),
            {ref: error for ref, error in functions.items() if error is not None},
        )


def _summed(errors: deque[float]) -> PredictionError | None:
    if not errors:
        return None
    return PredictionError(quantile_of(errors, 0.5), quantile_of(errors, 0.9), len(errors))
