"""Variants timed in turn, so that noise hits all of them alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

WARM_ROUNDS = 2
LEAST_ROUNDS, MOST_ROUNDS = 9, 2000


class Timing(NamedTuple):
    """Seconds of one variant."""

    median_s: float
    low_s: float  # 10th percentile
    high_s: float  # 90th percentile


def round_robin(variants: Mapping[str, Callable[[], object]], budget_s: float) -> dict[str, Timing]:
    """Each variant in turn until the budget is spent, at least 7 rounds after 2 to warm up."""
    times_s: dict[str, list[float]] = {name: [] for name in variants}
    names, order = list(variants), random.Random(0)
    started_s, rounds = perf_counter(), 0
    while rounds < LEAST_ROUNDS or (perf_counter() - started_s < budget_s and rounds < MOST_ROUNDS):
        for name in names:
            run_started_s = perf_counter()
            variants[name]()
            times_s[name].append(perf_counter() - run_started_s)
        order.shuffle(names)  # nobody always follows the same neighbour
        rounds += 1
    return {name: _timing(times[WARM_ROUNDS:]) for name, times in times_s.items()}


def _timing(times_s: Sequence[float]) -> Timing:
    tenths = quantiles(times_s, n=10)
    return Timing(median(times_s), tenths[0], tenths[-1])
