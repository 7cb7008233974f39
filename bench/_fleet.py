"""A day of a fleet: thousands of functions on hundreds of devices, one scheduler per shard.

The policy is the product's, in as many processes as there are cores; a scheduler for all devices
would look at every one of them for each call. Functions belong to shards, dealt out by popularity
so that each has as much to do. What it costs is counted in device hours, against the usual way: a
device for every function, all day.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import exp
from multiprocessing import get_context
from random import Random
from typing import NamedTuple

import numpy as np
from _report import Row
from simulator import Answer, Delays, Device, Fleet, FunctionProfile, Profile, Report, simulate
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
    # a thousandth of the latencies each, for quantiles over all shards
    latencies_s: Sequence[float]


def day(settings: Day) -> tuple[list[Shard], float]:
    """Every shard, and the wall seconds of all."""
    began_s = time.perf_counter()
    processes = min(len(os.sched_getaffinity(0)), settings.shards)
    work = [(settings, number) for number in range(settings.shards)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        shards = list(pool.map(_shard, work))
    return shards, time.perf_counter() - began_s


def of_day(settings: Day, found: tuple[list[Shard], float]) -> Iterator[Row]:
    """What it took and what it costs."""
    shards, wall_s = found
    total = {name: sum(getattr(s, name) for s in shards) for name in Shard._fields[:-1]}
    calls = total["calls"]
    what = f"{settings.functions} functions, {settings.devices} devices"
    bar = MINUTES_BAR if settings == FULL_DAY else None
    yield Row(f"{what}: calls", float(calls), "")
    yield Row(f"{what}: simulated in", wall_s / 60, "min", bar, False)
    yield Row(f"{what}: SLO violations", 1 - total["in_slo"] / calls, "")
    yield Row(f"{what}: refused or expired", (total["refused"] + total["expired"]) / calls, "")
    latencies_s = np.concatenate([np.asarray(s.latencies_s) for s in shards])
    yield Row(f"{what}: p99", float(np.quantile(latencies_s, 0.99)) * 1e3, "ms")
    device_s = settings.devices * settings.seconds
    yield Row(f"{what}: devices busy", total["busy_s"] / device_s, "")
    yield Row(f"{what}: calls per group", total["answered"] / total["groups"], "")
    yield Row(f"{what}: loads per 1,000 calls", 1e3 * total["loads"] / calls, "")
    hours = device_s / 3600 / calls * 1e6
    alone = settings.functions * settings.seconds / 3600 / calls * 1e6
    yield Row("device hours per million calls", hours, "h")
    yield Row("device hours per million calls, a device per function", alone, "h")
    yield Row("a device per function costs", alone / hours, "x")


def _shard(work: tuple[Day, int]) -> Shard:
    settings, number = work
    every_rate = zipf_rates(
        [f"f{k}" for k in range(settings.functions)], settings.calls_per_s, SKEW
    )
    own = dict([*every_rate.items()][number :: settings.shards])
    devices = settings.devices // settings.shards
    fleet = Fleet(
        tuple(Device(f"w{k:03}", budget_bytes=BUDGET_BYTES) for k in range(devices)), is_warm=False
    )
    workload = daily(own, settings.seconds, number)
    report = simulate(settings.policy, workload, fleet, _profile([*own], number), number)
    return _figures(report)


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


def _figures(report: Report) -> Shard:
    latencies_s = report.latencies_s()
    slos = sum(
        int(np.searchsorted(report.latencies_s(name), slo_s, side="right"))
        for name, slo_s in report.slos_s.items()
    )
    every = max(1, len(latencies_s) // 1000)
    return Shard(
        len(report),
        report.count(Answer.ANSWERED),
        slos,
        report.count(Answer.REFUSED),
        report.count(Answer.EXPIRED),
        sum(report.busy_s.values()),
        report.group_count,
        report.loads,
        [float(value) for value in latencies_s[::every]],
    )
