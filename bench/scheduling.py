"""Policies on running platforms: six functions, each with its SLO, Poisson arrivals.

Every policy has a platform of its own over the same artifacts; in each round they take turns, in
another order, and each plays every load, with the same calls for all. No other platform runs then.
Capacity is what the default policy answers to more clients than it can serve. Utility is BCEdge's,
ln(throughput / (latency / SLO)) with throughput in answers per second and mean latency, averaged
over functions; violations are all calls not answered within their SLO, refused ones included.
`--record` keeps a profile and three workloads with their figures in bench/results/scheduling, for
bench/simulate.py.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

from _edge_platforms import NAMES, Served, Stage, manifests, staged
from _intervals import ratio_interval
from _live import Played, one_after_another
from _plot import bar_plot
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
from _recording import profile, slower
from _report import Row, finish
from simulator.recorded import Measured, save
from simulator.report import Report, Summary
from simulator.workloads import closed_loop, gamma_bursts, poisson

from workers.scheduling.policies import NAMES as POLICIES

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "bench" / "results" / "scheduling"
REFUSED_BAR_S, STEADY_BAR = 0.05, 1.5
BURSTY, BURSTY_CV = "resnet18", 4.0
# of capacity: each of the five steady functions, and the bursty one on average
STEADY_SHARE, BURSTY_SHARE = 0.08, 0.2
PROFILE_ROWS, CALIBRATION_LOADS = (1, 2, 4, 8), (0.5, 0.7, 0.9)


class Length(NamedTuple):
    """How much is measured."""

    loads: tuple[float, ...]
    rounds: int
    seconds: float


FULL = Length((0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2), 3, 15.0)
QUICK = Length((0.8,), 1, 3.0)


def rates(capacity: float, load: float) -> dict[str, float]:
    """The same for every function."""
    return {name: load * capacity / len(NAMES) for name in NAMES}


def settled(report: Report, seconds: float) -> Summary:
    """Of a run, without its beginning."""
    return report.summary(SETTLING * seconds, seconds)


def capacity_of(served: Served, seconds: float) -> float:
    """Answers per second to clients of which each sends when it has its answer."""
    report = served.report(closed_loop(NAMES, CLIENTS, seconds, 0))
    return settled(report, seconds).throughput


@contextmanager
def warm(stage: Stage, policy: str, seconds: float) -> Iterator[Served]:
    """The platform of a policy, its DAGs built and its costs known."""
    with stage.served(policy) as served:
        served.report(closed_loop(NAMES, CLIENTS, seconds, 0))
        yield served


def compare(stage: Stage, policies: Sequence[str], capacity: float, length: Length) -> Found:
    """Every policy at every load, in turn."""
    summaries: defaultdict[tuple[str, float], list[Summary]] = defaultdict(list)
    chooser, order = random.Random(0), [*policies]
    for number in range(length.rounds):
        chooser.shuffle(order)
        for policy in order:
            with warm(stage, policy, length.seconds) as served:
                for load in length.loads:
                    work = poisson(rates(capacity, load), length.seconds, number)
                    summary = settled(served.report(work), length.seconds)
                    summaries[policy, load].append(summary)
    return summaries


def of_policies(found: Found, loads: Sequence[float]) -> Iterator[Row]:
    """Figures of each, and the default one against the others."""
    policies = sorted({policy for policy, _ in found})
    middle = {
        key: Summary(*(median(values) for values in zip(*runs, strict=True)))
        for key, runs in found.items()
    }
    for load in loads:
        for policy in policies:
            its, what = middle[policy, load], f"load {load:g}, {policy}"
            is_barred = policy == DEFAULT and load == BAR_LOAD
            bar = VIOLATIONS_BAR if is_barred else None
            yield Row(f"{what}: utility", its.utility, "")
            yield Row(f"{what}: SLO violations", its.violations, "", bar, False)
            yield Row(f"{what}: goodput", its.goodput, "1/s")
            yield Row(f"{what}: p99", its.p99_s * 1e3, "ms")
        for rival in RIVALS:
            if rival in policies:
                yield _gain(middle, (rival,), load, GAIN_BAR)
        if "bcedge" in policies:
            yield _gain(middle, ("bcedge",), load, 1.0)
    if set(RIVALS) & set(policies):
        yield _gain_over_loads(found, [r for r in RIVALS if r in policies], loads)


def _gain(
    middle: Mapping[tuple[str, float], Summary], rivals: Sequence[str], load: float, bar: float
) -> Row:
    ours, best = middle[DEFAULT, load].utility, max(middle[r, load].utility for r in rivals)
    name = f"load {load:g}: utility of {DEFAULT} over {' and '.join(rivals)}"
    return Row(name, over(ours, best), "x", bar)


def _gain_over_loads(found: Found, rivals: Sequence[str], loads: Sequence[float]) -> Row:
    ours = utility(found, DEFAULT, loads)
    best = max(utility(found, rival, loads) for rival in rivals)
    name = f"all loads: utility of {DEFAULT} over the best of {', '.join(rivals)}"
    return Row(name, over(ours, best), "x", GAIN_BAR)


def of_overload(served: Served, capacity: float, found: Found, seconds: float) -> list[Row]:
    """Twice the capacity: what is still answered in time, and how soon the others are told."""
    work = poisson(rates(capacity, OVERLOAD), seconds, 0)
    played = served.play(work)
    summary = settled(played.report(served.aims.slos_s, served.aims.timeouts_s), seconds)
    peak = max(
        median(run.goodput for run in runs)
        for (policy, _), runs in found.items()
        if policy == DEFAULT
    )
    refused_s = sorted(one.latency_s for one in played.told if one.is_refused)
    p99_s = refused_s[int(len(refused_s) * 0.99)] if refused_s else None
    return [
        Row("overload: goodput over its peak", summary.goodput / peak, "x", GOODPUT_BAR),
        Row("overload: refused", summary.refused, ""),
        Row("overload: expired", summary.expired, ""),
        Row(
            "overload: refused jobs answered in, p99",
            None if p99_s is None else 1e3 * p99_s,
            "ms",
            1e3 * REFUSED_BAR_S,
            False,
        ),
    ]


def of_bursts(served: Served, capacity: float, length: Length) -> Iterator[Row]:
    """Five steady functions alone and beside a bursty one, in turn."""
    steady = [name for name in NAMES if name != BURSTY]
    alone_s, beside_s = [], []
    for number in range(max(2, length.rounds)):
        calls = poisson(dict.fromkeys(steady, STEADY_SHARE * capacity), length.seconds, number)
        bursts = gamma_bursts({BURSTY: BURSTY_SHARE * capacity}, length.seconds, number, BURSTY_CV)
        both = type(calls)(sorted([*calls.calls, *bursts.calls]))
        for work, into in ((calls, alone_s), (both, beside_s)):
            into.append(_p99_s(served.report(work), steady, length.seconds))
    value = median(beside_s) / median(alone_s)
    interval = ratio_interval(beside_s, alone_s)
    yield Row("steady functions alone: p99", median(alone_s) * 1e3, "ms")
    yield Row("steady functions beside a bursty one: p99", median(beside_s) * 1e3, "ms")
    name = "steady functions: p99 beside over alone"
    yield Row(name, value, "x", STEADY_BAR, False, interval=interval)


def _p99_s(report: Report, names: list[str], seconds: float) -> float:
    return report.summary(SETTLING * seconds, seconds, names).p99_s


def recorded(served: Served, capacity: float, seconds: float, into: Path) -> Played:
    """Keep a profile, and three workloads with what became of them; the first of these runs."""
    into.mkdir(parents=True, exist_ok=True)
    alone = Played()
    for rows in PROFILE_ROWS:
        played = served.play(one_after_another(NAMES, rows, 20, 10 * seconds))
        alone.told += played.told
        alone.groups += played.groups
    # other calls than those of the workloads
    calibration = [
        served.play(poisson(rates(capacity, load), seconds, 100 + number))
        for number, load in enumerate(CALIBRATION_LOADS)
    ]
    aims = served.aims
    made = profile(alone, calibration, aims.slos_s, aims.timeouts_s, manifests(served.platform))
    made.write(into / "profile.json")
    workloads = {
        "poisson": poisson(rates(capacity, 0.8), seconds, 1),
        "bursts": gamma_bursts(rates(capacity, 0.5), seconds, 2, 3.0),
        "busy": poisson(rates(capacity, 0.95), seconds, 3),
    }
    runs = {name: served.play(work) for name, work in workloads.items()}
    for name, played in runs.items():
        summary = settled(played.report(aims.slos_s, aims.timeouts_s), seconds)
        # as they were sent, late or not
        calls = sorted(one.call._replace(at_s=one.sent_s) for one in played.told)
        save(
            into, name, calls, Measured(SETTLING * seconds, seconds, summary, slower(made, played))
        )
    return runs["poisson"]


def plot_timeline(played: Played, seconds: float, path: Path) -> None:
    """One second of groups on the device, as their worker reported them."""
    from_s = seconds / 2
    bars = [
        (
            group.reported_s - group.compute_s - from_s,
            group.compute_s,
            [n for n, _ in group.members],
        )
        for group in played.groups
        if from_s <= group.reported_s - group.compute_s < from_s + 1
    ]
    bar_plot(path, "One second of groups on a device", "seconds", NAMES, bars)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, record and plot where asked, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one load, one round, 3 s each")
    parser.add_argument("--rounds", type=int, help=f"of every load; {FULL.rounds} by default")
    parser.add_argument("--seconds", type=float, help=f"of a run; {FULL.seconds:g} by default")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=[*POLICIES])
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    parser.add_argument("--record", action="store_true", help=f"into {RECORDED.relative_to(ROOT)}")
    parser.add_argument("--record-into", metavar="FOLDER", help="or elsewhere")
    parser.add_argument("--plot", metavar="FOLDER", help="such as docs/images")
    options = parser.parse_args(words)
    length = QUICK if options.quick else FULL
    length = length._replace(
        rounds=options.rounds or length.rounds, seconds=options.seconds or length.seconds
    )
    policies = [DEFAULT, *(name for name in options.policies if name != DEFAULT)]
    into = Path(options.record_into) if options.record_into else RECORDED
    with staged() as stage:
        with warm(stage, DEFAULT, length.seconds) as default:
            capacity = capacity_of(default, length.seconds)
        found = compare(stage, policies, capacity, length)
        rows = [Row("capacity", capacity, "1/s"), *of_policies(found, length.loads)]
        with warm(stage, DEFAULT, length.seconds) as default:
            rows += of_overload(default, capacity, found, length.seconds)
            rows += of_bursts(default, capacity, length)
            if options.record or options.record_into:
                played = recorded(default, capacity, 2 * length.seconds, into)
                if options.plot:
                    plot_timeline(played, 2 * length.seconds, Path(options.plot, "timeline.svg"))
    if options.plot:
        names = {"utility": "policies.svg", "violations": "policies-violations.svg"}
        paths = {of: Path(options.plot, name) for of, name in names.items()}
        plot(found, "Six functions, Poisson arrivals", paths)
    return finish(rows, "Policies on six functions", options.json)


if __name__ == "__main__":
    sys.exit(main())
