"""The simulator against recorded runs, and whether slow moments that last explain what differs.

A recorded run is one history of a busy machine, so what is simulated is given as the median of
several seeds and where they lie. `contention` fits a pace (`simulator/pace.py`) to one recorded run
and judges it by the others: a pace that explains what contention does must do so for runs that it
has not seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

from _intervals import Interval
from _policies import DEFAULT
from _processes import spread
from _report import Row
from simulator import Fleet, Profile, simulate
from simulator.pace import Pace
from simulator.recorded import load
from simulator.report import Summary

WORKLOADS = ("poisson", "bursts", "busy")
NEAR_BAR = 0.15
# figures of a run that a pace is fitted to
FITTED = ("throughput", "p50_s", "p99_s", "violations")
ALONE = Pace()
PACES = (ALONE, *(Pace(share, lasts_s) for share in (0.4, 0.7, 0.95) for lasts_s in (0.1, 0.5, 2)))


class Replay(NamedTuple):
    """One recorded workload, simulated."""

    profile: Profile
    folder: Path
    name: str
    seed: int
    pace: Pace

    def summary(self) -> Summary:
        """Figures of the window that was measured."""
        workload, measured = load(self.folder, self.name)
        profile = replace(self.profile, pace=self.pace)
        report = simulate(DEFAULT, workload, Fleet.of(1), profile, self.seed)
        return report.summary(measured.from_s, measured.until_s)


# pace, workload -> the summary of each seed
Replayed = Mapping[tuple[Pace, str], Sequence[Summary]]


def replayed(
    profile: Profile, folder: Path, paces: Sequence[Pace], seeds: int, processes: int | None
) -> Replayed:
    """Every recorded workload at each of these paces."""
    replays = [
        Replay(profile, folder, name, seed, pace)
        for pace in paces
        for name in WORKLOADS
        for seed in range(seeds)
    ]
    found: defaultdict[tuple[Pace, str], list[Summary]] = defaultdict(list)
    for replay, summary in zip(replays, spread(Replay.summary, replays, processes), strict=True):
        found[replay.pace, replay.name].append(summary)
    return found


def validation(
    profile: Profile, folder: Path, seeds: int, processes: int | None = None
) -> Iterator[Row]:
    """Throughput and latencies of the same calls, simulated over real."""
    found = replayed(profile, folder, [profile.pace], seeds, processes)
    for name in WORKLOADS:
        real, runs = load(folder, name)[1].summary, found[profile.pace, name]
        for what in ("throughput", "p99_s", "p50_s"):
            ratios = [getattr(run, what) / getattr(real, what) for run in runs]
            case, bar = f"{name}: {what.removesuffix('_s')}", None if what == "p50_s" else NEAR_BAR
            yield Row(f"{case}, off by", abs(median(ratios) - 1), "", bar, False)
            yield Row(f"{case}, simulated over real", *_middle(ratios, "x"))
        violations = _middle([run.violations for run in runs], "")
        yield Row(f"{name}: SLO violations, simulated", *violations)
        yield Row(f"{name}: SLO violations, real", real.violations, "")


def contention(
    profile: Profile, folder: Path, seeds: int, processes: int | None = None
) -> Iterator[Row]:
    """p99 of two workloads at the pace that fits the third one best, and with independent draws."""
    found = replayed(profile, folder, PACES, seeds, processes)
    real = {name: load(folder, name)[1].summary for name in WORKLOADS}
    for fitted_to in WORKLOADS:
        runs = {pace: found[pace, fitted_to] for pace in PACES}
        pace = min(PACES, key=lambda pace: off(runs[pace], real[fitted_to]))
        what = f"fitted to {fitted_to}"
        yield Row(f"{what}: share of the spread that lasts", pace.share, "")
        yield Row(f"{what}: how long it lasts", pace.lasts_s, "s")
        for name in WORKLOADS:
            if name != fitted_to:
                ratios = [run.p99_s / real[name].p99_s for run in found[pace, name]]
                yield Row(f"{what}: {name}, p99, simulated over real", *_middle(ratios, "x"))
                alone = median(run.p99_s for run in found[ALONE, name]) / real[name].p99_s
                yield Row(f"{what}: {name}, p99, off by", abs(median(ratios) - 1), "")
                yield Row(f"independent draws: {name}, p99, off by", abs(alone - 1), "")


def off(runs: Sequence[Summary], real: Summary) -> float:
    """How far the medians of some runs are from a real one: mean of absolute logarithms."""
    return fmean(
        abs(log(_least(median(getattr(run, what) for run in runs)) / _least(getattr(real, what))))
        for what in FITTED
    )


def _least(value: float) -> float:
    # no violations at all are no better than one in a thousand
    return max(value, 1e-3)


def _middle(values: Sequence[float], unit: str) -> tuple[float, str, None, bool, Interval]:
    """For a row: the median, and where all of them lie."""
    return median(values), unit, None, True, Interval(min(values), max(values), len(values))
