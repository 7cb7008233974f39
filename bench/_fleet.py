"""A day of a fleet: thousands of functions on hundreds of devices, one scheduler per shard.

The policy is the product's, in as many processes as there are cores; a scheduler for all devices
would look at every one of them for each call. Functions belong to shards, dealt out by popularity
so that each has as much to do. What it costs is counted in device hours, against the usual way: a
device for every function, all day; how that serves calls is simulated too, for some shards'
functions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import exp
from random import Random
from typing import NamedTuple

import numpy as np
from _processes import spread
from _report import Row
from simulator import (
    Answer,
    Call,
    Delays,
    Fleet,
    FunctionProfile,
    Profile,
    Report,
    Workload,
    simulate,
)
from simulator.profiles import Bandwidth
from simulator.workloads import daily, zipf_rates

DAY_S = 86_400.0
MINUTES_BAR = 10.0
SKEW = 0.9
# of a run of one row: the median, and how far functions lie from each other (lognormal)
MEDIAN_S, SPREAD = 0.4, 0.8
MEDIAN_BYTES, BYTES_SPREAD = 100e6, 0.7
SLO_TIMES, LEAST_SLO_S = 5.0, 1.0
BUDGET_BYTES = 1 << 30
# a device per function is simulated for the functions of every so many shards
ALONE_EVERY = 16
# as measured on an idle platform: from the client to the worker, and back
DELAYS = Delays((0.001,), (0.0005,), (0.0005,), (0.001,), (0.001,), (0.001,))


class Day(NamedTuple):
    """What is simulated."""

    functions: int
    devices: int
    shards: int
    # of all functions, mean over the day
    calls_per_s: float
    seconds: float
    policy: str = "laxity"


FULL_DAY = Day(3_000, 256, 64, 25.0, DAY_S)
QUICK_DAY = Day(300, 16, 4, 10.0, 60.0)


class Shard(NamedTuple):
    """Figures of one shard."""

    calls: int
    answered: int
    in_slo: int
    refused: int
    expired: int
    busy_s: float
    groups: int
    loads: int
    # of the process that simulated it
    processor_s: float
    # a thousandth of the latencies each, for quantiles over all shards
    latencies_s: Sequence[float]


class Found(NamedTuple):
    """A day: every shard, some again with a device for every function, and wall seconds of both."""

    shards: Sequence[Shard]
    alone: Sequence[Shard]
    wall_s: float


def day(settings: Day, processes: int | None = None) -> Found:
    """Simulate it."""
    began_s = time.perf_counter()
    shards = spread(partial(_shard, settings), range(settings.shards), processes)
    # those of middling popularity: the most called function of all would take more than a device
    some = range(ALONE_EVERY // 2, settings.shards, ALONE_EVERY)
    alone = spread(partial(_alone, settings), some, processes)
    return Found(shards, alone, time.perf_counter() - began_s)


def of_day(settings: Day, found: Found) -> Iterator[Row]:
    """What it took and what it costs."""
    calls, device_s = _sum(found.shards, "calls"), settings.devices * settings.seconds
    what = f"{settings.functions} functions, {settings.devices} devices"
    bar = MINUTES_BAR if settings == FULL_DAY else None
    yield Row(f"{what}: calls", calls, "")
    processor_s = _sum(found.shards, "processor_s")
    yield Row(f"{what}: simulated in minutes of one core", processor_s / 60, "min", bar, False)
    yield Row(f"{what}: wall time, a device per function included", found.wall_s / 60, "min")
    yield from _served(what, found.shards)
    yield Row(f"{what}: devices busy", _sum(found.shards, "busy_s") / device_s, "")
    per_group = _sum(found.shards, "answered") / _sum(found.shards, "groups")
    yield Row(f"{what}: calls per group", per_group, "")
    yield Row(f"{what}: loads per 1,000 calls", 1e3 * _sum(found.shards, "loads") / calls, "")
    yield from _served("a device per function", found.alone)
    hours = device_s / 3600 / calls * 1e6
    alone = settings.functions * settings.seconds / 3600 / calls * 1e6
    yield Row("device hours per million calls", hours, "h")
    yield Row("device hours per million calls, a device per function", alone, "h")
    yield Row("a device per function costs", alone / hours, "x")


def _served(what: str, shards: Sequence[Shard]) -> Iterator[Row]:
    calls = _sum(shards, "calls")
    yield Row(f"{what}: SLO violations", 1 - _sum(shards, "in_slo") / calls, "")
    gone = _sum(shards, "refused") + _sum(shards, "expired")
    yield Row(f"{what}: refused or expired", gone / calls, "")
    latencies_s = np.concatenate([np.asarray(shard.latencies_s) for shard in shards])
    yield Row(f"{what}: p99", float(np.quantile(latencies_s, 0.99)) * 1e3, "ms")


def _sum(shards: Sequence[Shard], name: str) -> float:
    return float(sum(getattr(shard, name) for shard in shards))


def _shard(settings: Day, number: int) -> Shard:
    """Every device of a shard, and the functions that are its."""
    began_s, own = time.process_time(), _rates(settings, number)
    devices = settings.devices // settings.shards
    fleet = replace(Fleet.of(devices, budget_bytes=BUDGET_BYTES), is_warm=False)
    work = daily(own, settings.seconds, number)
    report = simulate(settings.policy, work, fleet, _profile([*own], number), number)
    return _figures([report], time.process_time() - began_s)


def _alone(settings: Day, number: int) -> Shard:
    """The same calls, with a device for every function that keeps its weights."""
    began_s, own = time.process_time(), _rates(settings, number)
    profile = _profile([*own], number)
    calls: dict[str, list[Call]] = {name: [] for name in own}
    for call in daily(own, settings.seconds, number).calls:
        calls[call.function].append(call)
    reports = [
        simulate(
            settings.policy,
            Workload(calls[name]),
            Fleet.of(1),
            replace(profile, functions={name: function}),
            number,
        )
        for name, function in profile.functions.items()
    ]
    return _figures(reports, time.process_time() - began_s)


def _rates(settings: Day, number: int) -> dict[str, float]:
    """Calls per second of each function of a shard."""
    names = [f"f{k}" for k in range(settings.functions)]
    every = zipf_rates(names, settings.calls_per_s, SKEW)
    return dict([*every.items()][number :: settings.shards])


def _profile(names: Sequence[str], seed: int) -> Profile:
    """Functions of many sizes; a group takes what its members take."""
    random = Random(seed)
    functions = {}
    for name in names:
        one_s = MEDIAN_S * exp(random.gauss(0, SPREAD))
        times = tuple(one_s * (0.9 + 0.02 * k) for k in range(11))
        slo_s = max(LEAST_SLO_S, SLO_TIMES * one_s)
        functions[name] = FunctionProfile(
            {1: times, 8: tuple(5 * t for t in times)},
            slo_s,
            3 * slo_s,
            int(MEDIAN_BYTES * exp(random.gauss(0, BYTES_SPREAD))),
        )
    return Profile(functions, DELAYS, Bandwidth(load_s=0.002))


def _figures(reports: Sequence[Report], processor_s: float) -> Shard:
    latencies_s = np.sort(np.concatenate([report.latencies_s() for report in reports]))
    every = max(1, len(latencies_s) // 1000)
    return Shard(
        sum(map(len, reports)),
        sum(report.count(Answer.ANSWERED) for report in reports),
        sum(map(_in_slo, reports)),
        sum(report.count(Answer.REFUSED) for report in reports),
        sum(report.count(Answer.EXPIRED) for report in reports),
        sum(sum(report.busy_s.values()) for report in reports),
        sum(report.group_count for report in reports),
        sum(report.loads for report in reports),
        processor_s,
        [float(value) for value in latencies_s[::every]],
    )


def _in_slo(report: Report) -> int:
    """Answers that came within their SLO."""
    return sum(
        int(np.searchsorted(report.latencies_s(name), slo_s, side="right"))
        for name, slo_s in report.slos_s.items()
    )
