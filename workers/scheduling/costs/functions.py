"""What one function version takes: alone, beside others, and before it ever ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.scheduling.costs.curves import Curve
from workers.scheduling.costs.lines import Line, probe_line

PRIOR_COMPUTE_S = 0.005
# A function with as many measurements is known well enough to learn from what others add.
KNOWN_RUNS = 3


class FunctionCosts:
    """Seconds by rows, on the device."""

    def __init__(self) -> None:
        # of groups with no other member
        self.alone = Curve()
        # its part of groups with others, without what these others add
        self.beside = Curve()
        self._probe: Line | None = None

    @property
    def runs(self) -> int:
        """Measurements that are kept."""
        return self.alone.runs + self.beside.runs

    @property
    def is_measured(self) -> bool:
        """Whether it has run."""
        return self.alone.is_seen or self.beside.is_seen

    def expect(self, seconds_by_rows: Mapping[int, float]) -> None:
        """What was measured at deploy."""
        self._probe = probe_line(seconds_by_rows)
        self.alone.set_shape(self._probe)
        self.beside.set_shape(self._probe)

    def probe_s(self, rows: int) -> float | None:
        """The time at deploy; None where it was not measured."""
        return self._probe.at(rows) if self._probe is not None else None

    def alone_s(self, rows: int, quantile: float, probe_scale: float) -> float:
        """Of a group with no other member."""
        return self._first_s((self.alone, self.beside), rows, quantile, probe_scale)

    def beside_s(self, rows: int, quantile: float, probe_scale: float) -> float:
        """In a group with others, before what these add."""
        return self._first_s((self.beside, self.alone), rows, quantile, probe_scale)

    def as_list(self) -> list[Any]:
        """Plain values, for `read`."""
        return [self.alone.as_list(), self.beside.as_list()]

    def read(self, record: Sequence[Any]) -> FunctionCosts:
        """Take on what `as_list` gave."""
        alone, beside = record
        self.alone.read(alone)
        self.beside.read(beside)
        return self

    def _first_s(
        self, curves: tuple[Curve, Curve], rows: int, quantile: float, probe_scale: float
    ) -> float:
        """The first curve that has these rows, or else that has any; else the probe."""
        for curve in curves:
            if curve.has(rows):
                return curve.predict_s(rows, quantile)
        for curve in curves:
            if curve.is_seen:
                return curve.predict_s(rows, quantile)
        probe_s = self.probe_s(rows)
        return PRIOR_COMPUTE_S if probe_s is None else probe_s * probe_scale
