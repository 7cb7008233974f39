"""Straight lines through measured times: what is assumed of sizes that were not seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Line(NamedTuple):
    """`base_s + x * slope_s`; neither is negative, so more never takes less."""

    base_s: float
    slope_s: float

    def at(self, x: float) -> float:
        """Seconds."""
        return self.base_s + x * self.slope_s


class Point(NamedTuple):
    """A measured size."""

    x: float
    seconds: float
    weight: float = 1.0


def fit(points: Iterable[Point], fixed_share: float) -> Line:
    """Weighted least squares of relative errors, within the bounds of `Line`.

    One size alone does not tell what grows with it: `fixed_share` of its time is taken not to.
    """
    # errors count relative to the time itself
    known = [(p.x, p.seconds, p.weight / max(p.seconds, 1e-9) ** 2) for p in points]
    total = sum(w for _, _, w in known)
    mean_x = sum(w * x for x, _, w in known) / total
    mean_s = sum(w * s for _, s, w in known) / total
    variance = sum(w * (x - mean_x) ** 2 for x, _, w in known) / total
    if variance <= 1e-12 * mean_x**2:
        slope_s = (1 - fixed_share) * mean_s / mean_x if mean_x else 0.0
        return Line(max(0.0, mean_s - slope_s * mean_x), slope_s)
    slope_s = sum(w * (x - mean_x) * (s - mean_s) for x, s, w in known) / total / variance
    if slope_s <= 0:
        return Line(mean_s, 0.0)
    base_s = mean_s - slope_s * mean_x
    if base_s >= 0:
        return Line(base_s, slope_s)
    squares = sum(w * x * x for x, _, w in known)
    return Line(0.0, sum(w * x * s for x, s, w in known) / squares)


def probe_line(seconds_by_rows: Mapping[int, float]) -> Line | None:
    """The line through what was measured at deploy; None where nothing was."""
    points = [Point(rows, s) for rows, s in seconds_by_rows.items() if s > 0]
    return fit(points, 0.5) if points else None
