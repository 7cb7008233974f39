"""The simulator against real runs, and what no machine here can run: many loads, workers, a fleet.

Five parts, all of them by default: `validation` replays the three workloads that
bench/scheduling.py recorded; `contention` asks whether slow moments that last explain what differs;
`policies` compares all of FUSEBOX_POLICY at many loads and seeds; `workers` runs one load per
worker on 1 to 64; `fleet` is a day of 3,000 functions on 256 devices. Service times are those of
the profile in bench/results/scheduling. Time is simulated: a busy machine changes how long a part
takes, not what comes out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

from _fleet import FULL_DAY, QUICK_DAY, day, of_day
from _intervals import Interval
from _policies import (
    BAR_LOAD,
    CLIENTS,
    DEFAULT,
    GAIN_BAR,
    GOODPUT_BAR,
    OVERLOAD,
    RIVALS,
    SETTLING,
    VIOLATIONS_BAR,
    Found,
    over,
    plot,
    utility,
)
from _processes import spread
from _report import Row, finish
from _validation import contention, validation
from simulator import Fleet, Profile, simulate
from simulator.report import Report, Summary
from simulator.workloads import closed_loop, poisson

from workers.scheduling.policies import NAMES as POLICIES

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "bench" / "results" / "scheduling"
EFFICIENCY_BAR = 0.9
SEED = 0


class Length(NamedTuple):
    """How much is simulated."""

    loads: tuple[float, ...]
    seeds: int
    seconds: float
    workers: tuple[int, ...]
    # of each recorded workload
    replays: int


FULL = Length((0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0), 3, 30.0,
              (1, 2, 4, 8, 16, 32, 64), 5)  # fmt: skip
QUICK = Length((0.5, 0.8, 1.2), 1, 6.0, (1, 4), 1)


class Game(NamedTuple):
    """One policy at one load."""

    profile: Profile
    policy: str
    load: float
    # calls per second of each function
    rate: float
    seed: int
    seconds: float

    def summary(self) -> Summary:
        """Figures without the beginning; the same seed gives all policies the same calls."""
        rates = dict.fromkeys(self.profile.functions, self.rate)
        work = poisson(rates, self.seconds, self.seed)
        report = simulate(self.policy, work, Fleet.of(1), self.profile, self.seed)
        return report.summary(SETTLING * self.seconds, self.seconds)


def saturated(profile: Profile, workers: int, seconds: float) -> Report:
    """A run with more clients than the workers can serve."""
    clients = closed_loop([*profile.functions], CLIENTS * workers, seconds, SEED)
    return simulate(DEFAULT, clients, Fleet.of(workers), profile, SEED)


def capacity_of(profile: Profile, seconds: float = 20.0) -> float:
    """Answers per second of one worker to more clients than it can serve."""
    report = saturated(profile, 1, seconds)
    return report.summary(SETTLING * seconds, seconds).throughput


def compare(
    profile: Profile,
    capacity: float,
    length: Length,
    policies: Sequence[str],
    processes: int | None = None,
) -> Found:
    """Every policy at every load."""
    rate = capacity / len(profile.functions)
    games = [
        Game(profile, policy, load, load * rate, seed, length.seconds)
        for load in length.loads
        for seed in range(length.seeds)
        for policy in policies
    ]
    found: defaultdict[tuple[str, float], list[Summary]] = defaultdict(list)
    for game, summary in zip(games, spread(Game.summary, games, processes), strict=True):
        found[game.policy, game.load].append(summary)
    return found


def of_policies(found: Found) -> Iterator[Row]:
    """Utility, violations and goodput, and the default one against the others."""
    for (policy, load), runs in sorted(found.items(), key=lambda item: item[0][::-1]):
        what = f"load {load:g}, {policy}"
        bar = VIOLATIONS_BAR if (policy, load) == (DEFAULT, BAR_LOAD) else None
        yield _of(f"{what}: utility", [run.utility for run in runs])
        violations = _of(f"{what}: SLO violations", [run.violations for run in runs])
        yield violations._replace(bar=bar, higher_is_better=False)
        yield _of(f"{what}: goodput", [run.goodput for run in runs], "1/s")
    loads, policies = sorted({load for _, load in found}), {policy for policy, _ in found}
    rivals = [rival for rival in RIVALS if rival in policies]
    if rivals:
        best = max(utility(found, rival, loads) for rival in rivals)
        gain = over(utility(found, DEFAULT, loads), best)
        yield Row(f"utility over the best of {', '.join(rivals)}", gain, "x", GAIN_BAR)
    if "bcedge" in policies:
        gains = [
            over(utility(found, DEFAULT, [load]), utility(found, "bcedge", [load]))
            for load in loads
        ]
        yield Row("utility over bcedge at the load where that is least", min(gains), "x", 1.0)
    if OVERLOAD in loads:
        goodputs = {load: median(run.goodput for run in found[DEFAULT, load]) for load in loads}
        value = goodputs[OVERLOAD] / max(goodputs.values())
        yield Row(f"load {OVERLOAD:g}: goodput over its peak", value, "x", GOODPUT_BAR)


def _of(case: str, values: Sequence[float], unit: str = "") -> Row:
    interval = Interval(min(values), max(values), len(values))
    return Row(case, median(values), unit, interval=interval)


def of_workers(profile: Profile, length: Length) -> Iterator[Row]:
    """Answers per second and worker, of as many clients per worker, over those of one."""
    alone, seconds = None, length.seconds / 2
    for count in length.workers:
        report = saturated(profile, count, seconds)
        per_second = report.summary(SETTLING * seconds, seconds).throughput
        yield Row(f"{count} workers: answers per second", per_second, "1/s")
        share = report.scheduler_s / report.until_s
        yield Row(f"{count} workers: time in which the scheduler decides and sends", share, "")
        alone = alone or per_second / count
        if count > 1:
            bar = EFFICIENCY_BAR if count == max(length.workers) else None
            yield Row(f"{count} workers: efficiency", per_second / count / alone, "", bar)


def _policies(profile: Profile, length: Length, options: argparse.Namespace) -> Iterator[Row]:
    policies = [DEFAULT, *(name for name in options.policies if name != DEFAULT)]
    capacity = capacity_of(profile)
    yield Row("capacity", capacity, "1/s")
    found = compare(profile, capacity, length, policies, options.processes)
    yield from of_policies(found)
    if options.plot:
        paths = {of: Path(options.plot, f"simulated-{of}.svg") for of in ("utility", "violations")}
        plot(found, "Six functions, simulated", paths)


def _fleet(options: argparse.Namespace) -> Iterator[Row]:
    settings = QUICK_DAY if options.quick else FULL_DAY
    return of_day(settings, day(settings, options.processes))


def main(words: Sequence[str] | None = None) -> int:
    """Simulate, print, plot where asked, and compare with the bars."""
    options, parser = _options(words)
    length = QUICK if options.quick else FULL
    if not (options.profile / "profile.json").exists():
        parser.error(f"{options.profile}: no profile.json; bench/scheduling.py --record makes one")
    profile = Profile.read(options.profile / "profile.json")
    if options.stretch:
        profile = replace(profile, stretch=options.stretch)
    recorded = profile, options.profile, length.replays, options.processes
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "validation": lambda: validation(*recorded),
        "contention": lambda: contention(*recorded),
        "policies": lambda: _policies(profile, length, options),
        "workers": lambda: of_workers(profile, length),
        "fleet": lambda: _fleet(options),
    }
    if wrong := set(options.parts) - set(parts):
        parser.error(f"parts: expected some of {', '.join(parts)}, got {', '.join(sorted(wrong))}")
    rows: list[Row] = []
    for name in options.parts or parts:
        began_s = time.perf_counter()
        rows += parts[name]()
        print(f"{name}: {(time.perf_counter() - began_s) / 60:.1f} minutes", flush=True)
    return finish(rows, "Simulated", options.json)


def _options(words: Sequence[str] | None) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    names = "validation, contention, policies, workers, fleet"
    parser.add_argument("parts", nargs="*", help=f"of {names}; all by default")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=[*POLICIES])
    parser.add_argument("--profile", metavar="FOLDER", default=RECORDED, type=Path)
    parser.add_argument("--stretch", type=float, help="runs take so many times as long as recorded")
    parser.add_argument("--processes", type=int, help="as many as there are cores by default")
    parser.add_argument("--quick", action="store_true", help="three loads, a minute of the fleet")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    parser.add_argument("--plot", metavar="FOLDER", help="such as docs/images")
    return parser.parse_args(words), parser


if __name__ == "__main__":
    sys.exit(main())
