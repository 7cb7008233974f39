"""What a group will cost, learned from what workers measured of earlier ones.

Compute time of a member is linear in its rows, `base_s + rows * row_s`, fitted online; members of a
group add up, which is exact on one core and an upper bound where branches overlap. Swap time is
bytes over a measured bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from contract.function import FunctionRef
from contract.store.queue import GroupReport

# A new measurement's weight: about the last ten groups count.
LEARNING_RATE = 0.2
PRIOR_COMPUTE_S = 0.005
PRIOR_BANDWIDTH_BYTES_PER_S = 1e9


@dataclass(slots=True)
class _Line:
    """Exponentially weighted moments of (rows, seconds)."""

    weight: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    rows_rows: float = 0.0
    rows_seconds: float = 0.0

    def learn(self, rows: int, seconds: float) -> None:
        keep = 1 - LEARNING_RATE if self.weight else 0.0
        take = 1 - keep
        self.weight = 1.0
        self.rows = keep * self.rows + take * rows
        self.seconds = keep * self.seconds + take * seconds
        self.rows_rows = keep * self.rows_rows + take * rows * rows
        self.rows_seconds = keep * self.rows_seconds + take * rows * seconds

    def predict_s(self, rows: int) -> float:
        if not self.weight:
            return PRIOR_COMPUTE_S
        variance = self.rows_rows - self.rows**2
        if variance < 1e-9:
            # one row count seen: half of its time is taken to grow with rows
            return self.seconds * (0.5 + 0.5 * rows / self.rows)
        slope = max(0.0, (self.rows_seconds - self.rows * self.seconds) / variance)
        return max(0.0, self.seconds + slope * (rows - self.rows))


@dataclass
class Costs:
    """The cost model of one platform."""

    compute: dict[FunctionRef, _Line] = field(default_factory=dict)
    bandwidth_bytes_per_s: float = PRIOR_BANDWIDTH_BYTES_PER_S

    def learn(self, report: GroupReport) -> list[tuple[FunctionRef, float]]:
        """Take in what a worker measured; each member and its part of the group's compute time.

        The time is shared out as it was predicted.
        """
        members = [(FunctionRef(n, v), rows) for n, v, rows in report.members]
        predicted = [self.compute_s(ref, rows) for ref, rows in members]
        total_s = sum(predicted)
        parts = []
        for (ref, rows), share_s in zip(members, predicted, strict=True):
            share = share_s / total_s if total_s else 1 / len(members)
            self.compute.setdefault(ref, _Line()).learn(rows, report.compute_s * share)
            parts.append((ref, report.compute_s * share))
        if report.swap_bytes and report.swap_s > 0:
            measured = report.swap_bytes / report.swap_s
            self.bandwidth_bytes_per_s += LEARNING_RATE * (measured - self.bandwidth_bytes_per_s)
        return parts

    def forget(self, ref: FunctionRef) -> None:
        """Unlearn a version that is removed."""
        self.compute.pop(ref, None)

    def compute_s(self, ref: FunctionRef, rows: int) -> float:
        """Predicted compute time of one member."""
        line = self.compute.get(ref)
        return line.predict_s(rows) if line else PRIOR_COMPUTE_S

    def is_measured(self, ref: FunctionRef) -> bool:
        """Whether a version has run, so that its prediction is more than a guess."""
        return ref in self.compute

    def swap_s(self, swap_bytes: int) -> float:
        """Predicted time to bring in weights."""
        return swap_bytes / self.bandwidth_bytes_per_s
