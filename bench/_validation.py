"""The simulator against recorded runs, and whether contention explains what differs.

A recorded run is one history of a busy machine, so what is simulated is given as the median of
several seeds and where they lie. The machine is not as fast in every run as when the profile was
made: by how much its groups and the ways of its jobs took longer is measured in each, and its
service times are simulated so. How long jobs waited is not looked at.

`contention` fits two guesses to one recorded run, that all runs take longer still (`stretch`) and
that slow moments last (`simulator/pace.py`), and judges them by the others: what explains
contention must explain runs that it has not seen.
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


class Guess(NamedTuple):
    """What contention might do."""

    stretch: float = 1.0
    pace: Pace = Pace()


AS_RECORDED = Guess()
PACES = (Pace(), Pace(0.7, 0.1), Pace(0.7, 0.5), Pace(0.7, 2.0))
GUESSES = tuple(Guess(1 + 0.15 * k, pace) for k in range(5) for pace in PACES)


class Replay(NamedTuple):
    """One recorded workload, simulated."""

    profile: Profile
    folder: Path
    name: str
    seed: int
    guess: Guess

    def summary(self) -> Summary:
        """Figures of the window that was measured."""
        workload, measured = load(self.folder, self.name)
        slower = measured.slower
        profile = replace(self.profile, **self.guess._asdict()).slower(*slower)
        report = simulate(DEFAULT, workload, Fleet.of(1), profile, self.seed)
        return report.summary(measured.from_s, measured.until_s)


# guess, workload -> the summary of each seed
Replayed = Mapping[tuple[Guess, str], Sequence[Summary]]


def replayed(
    profile: Profile, folder: Path, guesses: Sequence[Guess], seeds: int, processes: int | None
) -> Replayed:
    """Every recorded workload under each of these guesses."""
    replays = [
        Replay(profile, folder, name, seed, guess)
        for guess in guesses
        for name in WORKLOADS
        for seed in range(seeds)
    ]
    found: defaultdict[tuple[Guess, str], list[Summary]] = defaultdict(list)
    for replay, summary in zip(replays, spread(Replay.summary, replays, processes), strict=True):
        found[replay.guess, replay.name].append(summary)
    return found


def validation(
    profile: Profile, folder: Path, seeds: int, processes: int | None = None
) -> Iterator[Row]:
    """Throughput and latencies of the same calls, simulated over real."""
    own = Guess(profile.stretch, profile.pace)
    found = replayed(profile, folder, [own], seeds, processes)
    for name in WORKLOADS:
        measured, runs = load(folder, name)[1], found[own, name]
        real = measured.summary
        for what in ("throughput", "p99_s", "p50_s"):
            ratios = [getattr(run, what) / getattr(real, what) for run in runs]
            case, bar = f"{name}: {what.removesuffix('_s')}", None if what == "p50_s" else NEAR_BAR
            yield Row(f"{case}, off by", abs(median(ratios) - 1), "", bar, False)
            yield Row(f"{case}, simulated over real", *_middle(ratios, "x"))
        slower = measured.slower
        yield Row(f"{name}: its groups took so many times as long", slower.compute, "x")
        yield Row(f"{name}: its jobs' ways took so many times as long", slower.way, "x")
        violations = _middle([run.violations for run in runs], "")
        yield Row(f"{name}: SLO violations, simulated", *violations)
        yield Row(f"{name}: SLO violations, real", real.violations, "")


def contention(
    profile: Profile, folder: Path, seeds: int, processes: int | None = None
) -> Iterator[Row]:
    """Two workloads under the guess that fits the third one best, and as they were recorded."""
    found = replayed(profile, folder, GUESSES, seeds, processes)
    real = {name: load(folder, name)[1].summary for name in WORKLOADS}
    for fitted_to in WORKLOADS:
        offs = {guess: off(found[guess, fitted_to], real[fitted_to]) for guess in GUESSES}
        best = min(GUESSES, key=offs.__getitem__)
        what = f"fitted to {fitted_to}"
        yield Row(f"{what}: runs take so many times as long", best.stretch, "x")
        yield Row(f"{what}: share of the spread that lasts", best.pace.share, "")
        yield Row(f"{what}: how long it lasts", best.pace.lasts_s, "s")
        for name in WORKLOADS:
            if name != fitted_to:
                yield from _judged(what, name, found[best, name], real[name])
    for name in WORKLOADS:
        yield from _judged("as recorded", name, found[AS_RECORDED, name], real[name])


def _judged(what: str, name: str, runs: Sequence[Summary], real: Summary) -> Iterator[Row]:
    for figure in ("p99_s", "p50_s"):
        ratios = [getattr(run, figure) / getattr(real, figure) for run in runs]
        case = f"{what}: {name}, {figure.removesuffix('_s')}, simulated over real"
        yield Row(case, *_middle(ratios, "x"))
    violations = _middle([run.violations for run in runs], "")
    yield Row(f"{what}: {name}, SLO violations (real: {real.violations:.3f})", *violations)


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
