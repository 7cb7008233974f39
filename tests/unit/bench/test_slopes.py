"""Slopes and where they lie."""

import random

import pytest

from bench._intervals import slope_interval


def test_the_true_slope_lies_inside() -> None:
    """Nearly always, though neighbours are alike: a bootstrap over few blocks is a bit narrow."""
    inside = 0
    for seed in range(30):
        chooser, drift, values = random.Random(seed), 0.0, []
        for cycle in range(80):
            drift = 0.5 * drift + chooser.gauss(0, 1)
            values.append(0.1 * cycle + drift)
        _, interval = slope_interval(range(80), values)
        inside += interval.low <= 0.1 <= interval.high
    assert inside >= 24


def test_a_flat_curve_has_no_slope_and_a_leak_has_one() -> None:
    """Exactly, where there is no noise."""
    assert slope_interval([1, 2, 3, 4], [7.0] * 4) == (0.0, (0.0, 0.0, 4))
    assert slope_interval([1, 2, 3, 4], [7.0, 9.0, 11.0, 13.0]) == (2.0, (2.0, 2.0, 4))


@pytest.mark.parametrize("points", [0, 2])
def test_too_few_points_are_refused(points: int) -> None:
    """The message says how many there are."""
    with pytest.raises(ValueError, match=f"got {points}, {points}"):
        slope_interval([0.0] * points, [0.0] * points)
