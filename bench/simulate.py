"""The simulator against real runs, and what no machine here can run: many loads, workers, a fleet.

Four parts, all of them by default: `validation` replays the three workloads that
bench/scheduling.py recorded; `policies` compares all of FUSEBOX_POLICY at many loads and seeds;
`workers` runs one load per worker on 1 to 64; `fleet` is a day of 3,000 functions on 256 devices.
Service times are those of the profile in bench/results/scheduling.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import numpy as np
from _fleet import FULL_DAY, QUICK_DAY, day, of_day
from _intervals import Interval
from _plot import line_plot
from _report import Row, finish
from simulator import Fleet, Profile, simulate
from simulator.recorded import load
from simulator.report import Summary
from simulator.workloads import closed_loop, poisson

from workers.scheduling.policies import NAMES as POLICIES

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "bench" / "results" / "scheduling"
WORKLOADS = ("poisson", "bursts", "busy")
DEFAULT, RIVALS = "laxity", ("fixed", "window", "edf")
NEAR_BAR, GAIN_BAR, VIOLATIONS_BAR, EFFICIENCY_BAR = 0.15, 1.376, 0.01, 0.9
BAR_LOAD = 0.8
SETTLING = 0.2
SEED = 0


class Length(NamedTuple):
    """How much is simulated."""

    loads: tuple[float, ...]
    seeds: int
    seconds: float
    workers: tuple[int, ...]


FULL = Length((0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0), 5, 60.0,
              (1, 2, 4, 8, 16, 32, 64))  # fmt: skip
QUICK = Length((0.5, 0.8, 1.2), 1, 10.0, (1, 4))


def capacity_of(profile: Profile, policy: str = DEFAULT, seconds: float = 20.0) -> float:
    """Answers per second of one worker to more clients than it can serve."""
    clients = closed_loop([*profile.functions], 24, seconds, SEED)
    report = simulate(policy, clients, Fleet.of(1), profile, SEED)
    return report.summary(SETTLING * seconds, seconds).throughput


def validation(profile: Profile, folder: Path) -> Iterator[Row]:
    """Throughput and p99 of the same calls, simulated over real."""
    for name in WORKLOADS:
        workload, measured = load(folder, name)
        report = simulate(DEFAULT, workload, Fleet.of(1), profile, SEED)
        got, real = report.summary(measured.from_s, measured.until_s), measured.summary
        for what in ("throughput", "p99_s"):
            off = abs(getattr(got, what) / getattr(real, what) - 1)
            yield Row(f"{name}: {what.removesuffix('_s')}, off by", off, "", NEAR_BAR, False)
        yield Row(f"{name}: p50, simulated over real", got.p50_s / real.p50_s, "x")
        yield Row(f"{name}: SLO violations, simulated", got.violations, "")
        yield Row(f"{name}: SLO violations, real", real.violations, "")


Found = dict[tuple[str, float], list[Summary]]


def compare(profile: Profile, length: Length, policies: Sequence[str]) -> Found:
    """Every policy at every load, with the same calls for all."""
    capacity, names = capacity_of(profile), [*profile.functions]
    found: defaultdict[tuple[str, float], list[Summary]] = defaultdict(list)
    for part in length.loads:
        for seed in range(length.seeds):
            work = poisson({n: part * capacity / len(names) for n in names}, length.seconds, seed)
            for policy in policies:
                report = simulate(policy, work, Fleet.of(1), profile, seed)
                summary = report.summary(SETTLING * length.seconds, length.seconds)
                found[policy, part].append(summary)
    return dict(found)


def of_policies(found: Found) -> Iterator[Row]:
    """Utility, violations and goodput, and the default one against the others."""
    for (policy, part), runs in sorted(found.items(), key=lambda item: item[0][::-1]):
        what = f"load {part:g}, {policy}"
        bar = VIOLATIONS_BAR if (policy, part) == (DEFAULT, BAR_LOAD) else None
        yield Row(f"{what}: utility", *_of([run.utility for run in runs], ""))
        violations = _of([run.violations for run in runs], "")
        yield Row(f"{what}: SLO violations", *violations[:2], bar, False, violations[4])
        yield Row(f"{what}: goodput", *_of([run.goodput for run in runs], "1/s"))
    loads, policies = sorted({p for _, p in found}), {policy for policy, _ in found}
    rivals = [rival for rival in RIVALS if rival in policies]
    if rivals:
        ours = _mean(found, DEFAULT, loads)
        best = max(_mean(found, rival, loads) for rival in rivals)
        yield Row(f"utility over the best of {', '.join(rivals)}", _over(ours, best), "x", GAIN_BAR)
    if "bcedge" in policies:
        worst = min(
            _over(_mean(found, DEFAULT, [part]), _mean(found, "bcedge", [part])) for part in loads
        )
        yield Row("utility over bcedge at the load where that is least", worst, "x", 1.0)
    if max(loads) >= 2:
        goodputs = {p: median(run.goodput for run in found[DEFAULT, p]) for p in loads}
        value = goodputs[max(loads)] / max(goodputs.values())
        yield Row(f"load {max(loads):g}: goodput over its peak", value, "x", 0.9)


def _mean(found: Found, policy: str, loads: Sequence[float]) -> float:
    return float(np.mean([median(run.utility for run in found[policy, part]) for part in loads]))


def _over(ours: float, other: float) -> float:
    """How many times as good: 1 and the difference over the other's size, for it may be < 0."""
    return 1 + (ours - other) / abs(other)


def _of(values: Sequence[float], unit: str) -> tuple[float, str, None, bool, Interval]:
    interval = Interval(min(values), max(values), len(values))
    return median(values), unit, None, True, interval


def of_workers(profile: Profile, length: Length) -> Iterator[Row]:
    """Answers per second and worker, of as many clients per worker, over those of one."""
    names, per_worker = [*profile.functions], {}
    seconds = length.seconds / 4
    for count in length.workers:
        clients = closed_loop(names, 24 * count, seconds, SEED)
        report = simulate(DEFAULT, clients, Fleet.of(count), profile, SEED)
        per_worker[count] = report.summary(SETTLING * seconds, seconds).throughput / count
        yield Row(f"{count} workers: answers per second", per_worker[count] * count, "1/s")
        if count > 1:
            value = per_worker[count] / per_worker[1]
            bar = EFFICIENCY_BAR if count == max(length.workers) else None
            yield Row(f"{count} workers: efficiency", value, "", bar)


def plot(found: Found, folder: Path) -> None:
    """Utility and violations against load."""
    for of, label in (("utility", "utility"), ("violations", "SLO violations, share of calls")):
        series: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for (policy, part), runs in sorted(found.items()):
            series[policy].append((part, median(getattr(run, of) for run in runs)))
        path = folder / f"simulated-{of}.svg"
        line_plot(path, "Six functions, simulated", "load over capacity", label, series)


def main(words: Sequence[str] | None = None) -> int:
    """Simulate, print, plot where asked, and compare with the bars."""
    parts = ("validation", "policies", "workers", "fleet")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all by default")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=[*POLICIES])
    parser.add_argument("--profile", metavar="FOLDER", default=RECORDED, type=Path)
    parser.add_argument("--quick", action="store_true", help="three loads, a minute of the fleet")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    parser.add_argument("--plot", metavar="FOLDER", help="such as docs/images")
    options = parser.parse_args(words)
    chosen = options.parts or parts
    if wrong := set(chosen) - set(parts):
        parser.error(f"parts: expected some of {', '.join(parts)}, got {', '.join(sorted(wrong))}")
    length = QUICK if options.quick else FULL
    if not (options.profile / "profile.json").exists():
        parser.error(f"{options.profile}: no profile.json; bench/scheduling.py --record makes one")
    profile = Profile.read(options.profile / "profile.json")
    rows: list[Row] = []
    if "validation" in chosen:
        rows += validation(profile, options.profile)
    if "policies" in chosen:
        policies = [DEFAULT, *(name for name in options.policies if name != DEFAULT)]
        found = compare(profile, length, policies)
        rows += of_policies(found)
        if options.plot:
            plot(found, Path(options.plot))
    if "workers" in chosen:
        rows += of_workers(profile, length)
    if "fleet" in chosen:
        settings = QUICK_DAY if options.quick else FULL_DAY
        rows += of_day(settings, day(settings))
    return finish(rows, "Simulated", options.json)


if __name__ == "__main__":
    sys.exit(main())
