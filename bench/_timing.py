"""Variants timed in turn, so that noise hits all of them alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

from _intervals import Interval, is_open, ratio_interval

WARM_ROUNDS = 2
LEAST_ROUNDS, MOST_ROUNDS = 9, 2000
# between two looks whether the ratios are known well enough, rounds grow by this
GROWTH = 1.5

Variants = Mapping[str, Callable[[], object]]


class Length(NamedTuple):
    """Seconds for a case: as many at least, as many at most where its ratios stay open."""

    least_s: float
    most_s: float


class Times(NamedTuple):
    """Seconds of each counted run of one variant."""

    runs_s: list[float]

    @property
    def median_s(self) -> float:
        """The figure that ratios are made of."""
        return median(self.runs_s)

    @property
    def tenths_s(self) -> tuple[float, float]:
        """10th and 90th percentile."""
        tenths = quantiles(self.runs_s, n=10)
        return tenths[0], tenths[-1]

    def over(self, fused: Times) -> float:
        """How many times as long as the other, by medians."""
        return self.median_s / fused.median_s

    def interval_over(self, fused: Times) -> Interval:
        """Where that lies."""
        return ratio_interval(self.runs_s, fused.runs_s)


def round_robin(
    variants: Variants, length: Length, bars: Mapping[str, float], base: str
) -> dict[str, Times]:
    """Each variant in turn, 7 rounds at least after 2 to warm up.

    Past `least_s` it goes on while a ratio of `bars` over `base` is still open.
    """
    rounds = _Rounds(variants)
    rounds.run(length.least_s, LEAST_ROUNDS)
    while rounds.spent_s < length.most_s and rounds.count < MOST_ROUNDS:
        times = rounds.times()
        ratios = {name: times[name].interval_over(times[base]) for name in bars if name in times}
        if not any(is_open(interval, bars[name]) for name, interval in ratios.items()):
            break
        rounds.run(min(rounds.spent_s * GROWTH, length.most_s), 0)
    return rounds.times()


class _Rounds:
    """Rounds so far, in an order that changes."""

    def __init__(self, variants: Variants) -> None:
        self._variants = variants
        self._runs_s: dict[str, list[float]] = {name: [] for name in variants}
        self._names, self._order = list(variants), random.Random(0)
        self.spent_s = 0.0
        self.count = 0

    def run(self, until_s: float, least_rounds: int) -> None:
        """Rounds until this much time is spent in all."""
        while self.count < least_rounds or (self.spent_s < until_s and self.count < MOST_ROUNDS):
            began_s = perf_counter()
            for name in self._names:
                run_began_s = perf_counter()
                self._variants[name]()
                self._runs_s[name].append(perf_counter() - run_began_s)
            self._order.shuffle(self._names)  # nobody always follows the same neighbour
            self.spent_s += perf_counter() - began_s
            self.count += 1

    def times(self) -> dict[str, Times]:
        """Of all rounds but those to warm up."""
        return {name: Times(runs_s[WARM_ROUNDS:]) for name, runs_s in self._runs_s.items()}
