"""Orders of eviction side by side: the policy as it is, in virtual time, without a device.

A load takes a moment and a time that grows with the bytes; a miss in the memory of one function is
a load. Every seed makes other sizes, other popularities and another history of calls, which both
orders see alike. Ratios are of one history; what is shown is their median, lowest and highest.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

from _intervals import Interval
from _report import Row, finish

from fusion.eviction import ORDERS, Order, choose_victims
from fusion.history import History
from fusion.lru import ByteLru

FUNCTIONS = 24
CALLS_PER_S = 20.0
ROOMS = (4, 8, 16)
SKEW = 1.1
# of the calls, to the hot quarter; the others go through the rest in turn
HOT_SHARE = 0.6
# the popularities are drawn anew after so many calls
SHIFT_CALLS = 1000
# a load takes this and each byte its time, give or take SPREAD
LOAD_S, S_PER_MB, SPREAD = 0.002, 0.0002, 0.4
MEAN_MB = 45.0

Chooser = Callable[[random.Random, int], Iterator[int]]


class World(NamedTuple):
    """What one seed makes."""

    sizes: list[int]
    load_s: list[float]
    # (when, which function)
    calls: list[tuple[float, int]]


class Score(NamedTuple):
    """What an order made of it."""

    hit_ratio: float
    reload_s: float
    thrash: int


def zipf(chooser: random.Random, calls: int) -> Iterator[int]:
    """The k-th most popular function is called in proportion to k ** -1.1."""
    names = chooser.sample(range(FUNCTIONS), FUNCTIONS)
    weights = [(rank + 1) ** -SKEW for rank in range(FUNCTIONS)]
    yield from chooser.choices(names, weights, k=calls)


def shifting(chooser: random.Random, calls: int) -> Iterator[int]:
    """Zipf whose popularities change from time to time."""
    for first, end in pairwise([*range(0, calls, SHIFT_CALLS), calls]):
        yield from zipf(chooser, end - first)


def uniform(chooser: random.Random, calls: int) -> Iterator[int]:
    """All alike."""
    yield from chooser.choices(range(FUNCTIONS), k=calls)


def scan(chooser: random.Random, calls: int) -> Iterator[int]:
    """A hot set, and all others in turn, for ever."""
    hot = FUNCTIONS // 4
    following = hot
    for _ in range(calls):
        if chooser.random() < HOT_SHARE:
            yield chooser.randrange(hot)
        else:
            yield following
            following = following + 1 if following + 1 < FUNCTIONS else hot


WORKLOADS: dict[str, Chooser] = {
    "Zipf 1.1": zipf,
    "Zipf 1.1, shifting": shifting,
    "uniform": uniform,
    "hot set and scan": scan,
}


def world(workload: Chooser, is_sized: bool, calls: int, seed: int) -> World:
    """Sizes, load times and calls of a seed."""
    chooser = random.Random(seed)
    megabytes = [MEAN_MB] * FUNCTIONS
    if is_sized:
        megabytes = [MEAN_MB * chooser.lognormvariate(-0.5, 1) for _ in range(FUNCTIONS)]
    load_s = [
        LOAD_S + S_PER_MB * size * chooser.uniform(1 - SPREAD, 1 + SPREAD) for size in megabytes
    ]
    now_s, history = 0.0, []
    for function in workload(chooser, calls):
        now_s += chooser.expovariate(CALLS_PER_S)
        history.append((now_s, function))
    return World([int(size * 1e6) for size in megabytes], load_s, history)


def play(world: World, order: Order, room: int) -> Score:
    """One call after another, with room for so many functions of mean size."""
    sizes, load_s, calls = world
    budget_bytes = max(sum(sizes) * room // len(sizes), max(sizes))
    slots: ByteLru[str, None] = ByteLru()
    history = History()
    hits, reload_s = 0, 0.0
    for now_s, function in calls:
        key, size = str(function), sizes[function]
        if key in slots:
            hits += 1
            slots.touch(key)
            history.asked(key, now_s)
            continue
        shortage = slots.bytes + size - budget_bytes
        for victim in choose_victims(slots, shortage, (), order, history, now_s):
            slots.pop(victim)
            history.evicted(victim, now_s, is_pushed_out=True)
        slots.put(key, None, size)
        assert slots.bytes <= budget_bytes
        history.asked(key, now_s)
        is_first = not history.of(key).loads
        history.loaded(key, load_s[function], now_s + load_s[function], was_verified=not is_first)
        history.released(key, now_s + load_s[function])
        reload_s += load_s[function]
    return Score(hits / len(calls), reload_s, history.thrash)


def rows_of(name: str, scores: Sequence[tuple[Score, Score]], bar: float | None) -> list[Row]:
    """Of one workload, size of room, and seeds: (by recency, by cost) each."""
    saved = [cost.reload_s / recent.reload_s for recent, cost in scores]
    rows = [
        Row(
            f"{name}: seconds of loads, cost / lru", median(saved), "x", bar,
            higher_is_better=False, interval=Interval(min(saved), max(saved), len(saved)),
        )
    ]  # fmt: skip
    for order, found in zip(ORDERS, zip(*scores, strict=True), strict=True):
        hits = [score.hit_ratio for score in found]
        spread = Interval(min(hits), max(hits), len(hits))
        rows.append(Row(f"{name}: hits, {order}", median(hits), "", interval=spread))
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """Play every workload, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="3 seeds of 1,500 calls")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    seeds, calls = (3, 1_500) if options.quick else (11, 6_000)
    rows: list[Row] = []
    for name, workload in WORKLOADS.items():
        for is_sized in (False, True):
            worlds = [world(workload, is_sized, calls, seed) for seed in range(seeds)]
            for room in ROOMS:
                orders = ORDERS.values()
                scores = [tuple(play(one, order, room) for order in orders) for one in worlds]
                sizes = "many sizes" if is_sized else "one size"
                # the option is kept for popularities that stay; elsewhere it must lose nothing
                bar = 1.0 if workload is zipf else 1.05
                rows += rows_of(f"{name}, {sizes}, room for {room}", scores, bar)  # type: ignore[arg-type]  # two orders
    title = f"{FUNCTIONS} functions, {calls} calls, {seeds} seeds, virtual time"
    return finish(rows, title, options.json)


if __name__ == "__main__":
    sys.exit(main())
