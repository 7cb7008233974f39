"""Where a ratio of medians lies."""

import random

import pytest

from bench._intervals import NARROW, WIDE, Interval, is_open, ratio_interval


def noisy(median_s: float, runs: int, spread: float, seed: int) -> list[float]:
    """Times around a median."""
    drawn = random.Random(seed)
    return [median_s * drawn.uniform(1 - spread, 1 + spread) for _ in range(runs)]


def test_the_true_ratio_lies_inside() -> None:
    """Nearly always: 95 of 100, give or take what a hundred draws may be off."""
    inside = 0
    for seed in range(100):
        others_s, fused_s = noisy(0.3, 40, 0.2, 2 * seed), noisy(0.2, 40, 0.2, 2 * seed + 1)
        low, high, runs = ratio_interval(others_s, fused_s)
        assert runs == 40
        inside += low <= 1.5 <= high
    assert inside >= 88


def test_more_runs_narrow_it() -> None:
    """A hundred times as many: much narrower, and still around the ratio."""
    few = ratio_interval(noisy(0.3, 10, 0.2, 1), noisy(0.2, 10, 0.2, 2))
    many = ratio_interval(noisy(0.3, 1000, 0.2, 1), noisy(0.2, 1000, 0.2, 2))
    assert many.high - many.low < (few.high - few.low) / 3
    assert few.low <= 1.5 <= few.high


def test_what_slows_a_whole_round_down_does_not_widen_it() -> None:
    """Rounds are drawn whole: a machine that is now fast, now slow, leaves the ratio alone."""
    pace = [1 + 9 * (k % 2) for k in range(21)]
    fused_s = [0.1 * p for p in pace]
    assert ratio_interval([0.2 * p for p in pace], fused_s) == pytest.approx((2, 2, 21))


def test_it_is_the_same_each_time() -> None:
    """Drawn from a seed of its own, whatever others have drawn."""
    times = noisy(0.3, 20, 0.2, 1), noisy(0.2, 20, 0.2, 2)
    assert ratio_interval(*times) == ratio_interval(*times)


@pytest.mark.parametrize(("others_s", "fused_s"), [([], []), ([0.1], [0.1, 0.2])])
def test_runs_that_do_not_pair_are_refused(others_s: list[float], fused_s: list[float]) -> None:
    """The message says how many there are."""
    counts = f"got {len(others_s)}, {len(fused_s)}"
    with pytest.raises(ValueError, match=counts):
        ratio_interval(others_s, fused_s)


@pytest.mark.parametrize(
    ("low", "high", "bar", "expected"),
    [
        (2.0, 2.0 * (1 + 1.1 * WIDE), 0.97, True),
        (2.0, 2.0 * (1 + 0.9 * WIDE), 0.97, False),
        (0.95, 0.99, 0.97, True),
        (0.98, 1.02, 0.97, False),
        (0.97, 0.97 * (1 + 0.9 * NARROW), 0.97, False),
    ],
)
def test_wide_ones_and_those_around_their_bar_are_open(
    low: float, high: float, bar: float, expected: bool
) -> None:
    """More rounds are worth their time only there."""
    assert is_open(Interval(low, high, 10), bar) is expected
