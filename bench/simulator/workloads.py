"""Calls as they come: generators with a seed, recorded traces, and clients that wait."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import cos, pi
from pathlib import Path
from random import Random
from typing import NamedTuple


class Call(NamedTuple):
    """One call of a function; seconds since the workload began."""

    at_s: float
    function: str
    rows: int = 1
    # whose call it is, in a closed loop
    client: int = 0


@dataclass(frozen=True)
class Workload:
    """Calls in order of time, and what clients send once they have an answer."""

    calls: Iterable[Call]
    # after the answer to this call, at this time
    then: Callable[[Call, float], Call | None] | None = None


def poisson(rates: Mapping[str, float], seconds: float, seed: int) -> Workload:
    """Each function at its rate, calls per second, independent of each other."""
    streams = (
        _renewals(name, seconds, lambda r, rate=rate: r.expovariate(rate), _random(seed, name))  # type: ignore[misc]
        for name, rate in rates.items()
        if rate > 0
    )
    return Workload([*heapq.merge(*streams)])


def gamma_bursts(
    rates: Mapping[str, float], seconds: float, seed: int, cv: float = 4.0
) -> Workload:
    """Gamma-distributed gaps of this coefficient of variation: 1 is Poisson, more is bursts."""
    shape = 1 / cv**2
    streams = (
        _renewals(
            name,
            seconds,
            lambda r, rate=rate: r.gammavariate(shape, 1 / (shape * rate)),  # type: ignore[misc]
            _random(seed, name),
        )
        for name, rate in rates.items()
        if rate > 0
    )
    return Workload([*heapq.merge(*streams)])


def zipf_rates(names: Sequence[str], total: float, skew: float = 1.1) -> dict[str, float]:
    """A total rate shared out by popularity: the k-th name gets 1 / k**skew of the first one's."""
    weights = [(rank + 1) ** -skew for rank in range(len(names))]
    return {
        name: total * weight / sum(weights) for name, weight in zip(names, weights, strict=True)
    }


def daily(
    rates: Mapping[str, float],
    seconds: float,
    seed: int,
    depth: float = 0.8,
    day_s: float = 86_400.0,
) -> Workload:
    """Poisson whose rate goes up and down once a day, from 1 - depth at midnight to 1 + depth.

    Lazy: a day of a fleet is not held in memory.
    """
    return Workload(_wave(rates, seconds, _random(seed, "daily"), depth, day_s))


def closed_loop(
    names: Sequence[str], clients: int, seconds: float, seed: int, think_s: float = 0.0
) -> Workload:
    """Clients that call, wait for the answer, think, and call again; functions in turn."""
    random = _random(seed, "closed")

    def after(call: Call, answered_s: float) -> Call | None:
        pause_s = random.expovariate(1 / think_s) if think_s else 0.0
        at_s = answered_s + pause_s
        name = names[(names.index(call.function) + 1) % len(names)]
        return Call(at_s, name, call.rows, call.client) if at_s < seconds else None

    return Workload([Call(0.0, names[n % len(names)], 1, n) for n in range(clients)], after)


def recorded(path: Path) -> Workload:
    """A trace: lines of `[at_s, function, rows]`."""
    with path.open() as lines:
        return Workload(sorted(Call(*json.loads(line)) for line in lines if line.strip()))


def record(path: Path, calls: Iterable[Call]) -> None:
    """Write a trace for `recorded`."""
    lines = (json.dumps([call.at_s, call.function, call.rows]) for call in calls)
    path.write_text("\n".join(lines) + "\n")


def _random(seed: int, name: str) -> Random:
    # a stream of its own for each name: one more function changes no other's calls
    return Random(f"{seed}/{name}")


def _renewals(
    name: str, seconds: float, gap_s: Callable[[Random], float], random: Random
) -> Iterator[Call]:
    at_s = gap_s(random)
    while at_s < seconds:
        yield Call(at_s, name)
        at_s += gap_s(random)


def _wave(
    rates: Mapping[str, float], seconds: float, random: Random, depth: float, day_s: float
) -> Iterator[Call]:
    """By thinning (Lewis, Shedler, 1979): candidates at the highest rate, kept as the wave says."""
    names = [*rates]
    sums = [*accumulate(rates.values())]
    highest = sums[-1] * (1 + depth)
    at_s = random.expovariate(highest)
    while at_s < seconds:
        level = (1 - depth * cos(2 * pi * at_s / day_s)) / (1 + depth)
        if random.random() < level:
            yield Call(at_s, random.choices(names, cum_weights=sums)[0])
        at_s += random.expovariate(highest)
