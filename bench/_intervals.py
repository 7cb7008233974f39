"""How far a ratio of medians can be trusted, from the runs it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
# a ratio known this well is settled, wherever its bar lies
NARROW = 0.02
# wider than this it is worth more rounds, however far its bar is
WIDE = 0.1


class Interval(NamedTuple):
    """Where a ratio lies, with `CONFIDENCE`."""

    low: float
    high: float
    # of each of the two variants
    runs: int


def ratio_interval(others_s: Sequence[float], fused_s: Sequence[float]) -> Interval:
    """Of median(others) / median(fused): percentile bootstrap over rounds (Efron, 1979).

    Run k of both belongs to one round, and rounds are drawn whole: what slowed a round down slowed
    both. Deterministic. Raises ValueError unless both have equally many runs, one at least.
    """
    if len(others_s) != len(fused_s) or not fused_s:
        raise ValueError(
            f"others_s, fused_s: expected equally many runs, got {len(others_s)}, {len(fused_s)}"
        )
    runs = len(fused_s)
    drawn = np.random.default_rng(0).integers(runs, size=(RESAMPLES, runs))
    medians = [np.median(np.asarray(times)[drawn], axis=1) for times in (others_s, fused_s)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians[0] / medians[1], [tail, 1 - tail])
    return Interval(float(low), float(high), runs)


def is_open(interval: Interval, bar: float) -> bool:
    """Whether more rounds could tell more: a wide interval, or one that its bar lies in."""
    width = (interval.high - interval.low) / interval.low
    return width > WIDE or (width > NARROW and interval.low <= bar <= interval.high)


def slope_interval(x: Sequence[float], y: Sequence[float]) -> tuple[float, Interval]:
    """The least-squares slope of y over x and where it lies, by a bootstrap over blocks.

    Points near each other are alike (what is resident now is resident next), so residuals are drawn
    in blocks of about the cube root of their number (Künsch, 1989). Deterministic. Raises
    ValueError unless both have equally many points, three at least.
    """
    if len(x) != len(y) or len(x) < 3:
        raise ValueError(f"x, y: expected equally many points, 3 or more, got {len(x)}, {len(y)}")
    points, count = np.asarray(x, float), len(x)
    slope, level = np.polyfit(points, y, 1)
    fitted = slope * points + level
    residuals = np.asarray(y, float) - fitted
    length = max(1, round(count ** (1 / 3)))
    random = np.random.default_rng(0)
    slopes = []
    for _ in range(RESAMPLES):
        starts = random.integers(count - length + 1, size=-(-count // length))
        drawn = residuals[(starts[:, None] + np.arange(length)).ravel()[:count]]
        slopes.append(np.polyfit(points, fitted + drawn, 1)[0])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(slopes, [tail, 1 - tail])
    # what rounding makes of a flat curve is nothing
    slope, low, high = (round(float(value), 9) for value in (slope, low, high))
    return slope, Interval(low, high, count)
