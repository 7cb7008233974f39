"""The shipped `bcedge` agent against the other policies, in the simulator.

Six functions like BCEdge's with assumed times (`_bcedge_training.six`), Poisson calls, one worker
with two places; every policy plays the same calls. A load of 1 is what the device computes in
batches of eight. Time is simulated: a busy machine changes how long this takes, not what comes out.
`--against FILE` has another agent of bench/train_bcedge.py play too, before it is shipped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

import torch
from _bcedge_training import rates_at, six
from _intervals import Interval
from _plot import line_plot
from _processes import spread
from _report import Row, finish
from simulator import Fleet, simulate
from simulator.workloads import poisson

from workers.scheduling.policies import NAMES
from workers.scheduling.policies.bcedge import weights
from workers.scheduling.policies.bcedge.agent import Agent
from workers.scheduling.policies.bcedge.grid import ACTIONS
from workers.scheduling.policies.bcedge.policy import BCEdge

COMPARED = ("bcedge", "fixed", "window", "edf", "laxity", "fifo")
LOADS = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2)
SEEDS = (101, 102, 103, 104, 105)
SECONDS = 20.0
# of a run, left out: queues begin empty
START = 0.1


class Played(NamedTuple):
    """Of one run: mean over functions of ln(throughput / (latency / SLO)), and SLOs violated."""

    utility: float
    violations: float


class Game(NamedTuple):
    """One policy, by name or as an agent's file, at one load."""

    load: float
    policy: str
    seed: int


def main() -> int:
    """Play, print, write."""
    args = _arguments()
    policies = [name for name in COMPARED if name in NAMES] + [str(file) for file in args.against]
    games = [Game(*its) for its in product(args.loads, policies, args.seeds)]
    played = dict(
        zip(games, spread(partial(play, args.seconds), games, args.processes), strict=True)
    )
    rows: list[Row] = []
    lines: dict[str, list[tuple[float, float]]] = {name: [] for name in policies}
    for load in args.loads:
        found = {name: [played[Game(load, name, seed)] for seed in args.seeds] for name in policies}
        for name in policies:
            lines[name].append((load, fmean(run.utility for run in found[name])))
        rows += rows_of(load, {Path(name).stem: runs for name, runs in found.items()})
    if args.plot:
        line_plot(args.plot, "six functions, simulated", "load", "utility", lines)
    title = f"bcedge against others, simulated, seeds {' '.join(map(str, args.seeds))}"
    return finish(rows, title, args.json)


def play(seconds: float, game: Game) -> Played:
    """One run."""
    torch.set_num_threads(1)
    profile, fleet = six(Random(game.seed)), Fleet.of(1)
    workload = poisson(rates_at(profile, game.load), seconds, game.seed)
    policy = game.policy if game.policy in NAMES else agent_of(Path(game.policy), fleet)
    report = simulate(policy, workload, fleet, profile, game.seed)
    summary = report.summary(START * seconds, seconds)
    return Played(summary.utility, summary.violations)


def agent_of(file: Path, fleet: Fleet) -> BCEdge:
    """The policy with the agent of a file."""
    networks, predictor = weights.read(file)
    return BCEdge(fleet.limits, Agent(networks, len(ACTIONS)), predictor)


def rows_of(load: float, found: Mapping[str, Sequence[Played]]) -> list[Row]:
    """Utility and violations of each policy at one load, and the range over its seeds."""
    rows = []
    for name, runs in found.items():
        for field, unit in (("utility", ""), ("violations", "of jobs")):
            values = [getattr(run, field) for run in runs]
            spread = Interval(min(values), max(values), len(values))
            case = f"load {load:g}: {name}, {field}"
            rows.append(Row(case, fmean(values), unit, interval=spread))
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=float, nargs="+", default=[*LOADS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[*SEEDS])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of simulated time")
    parser.add_argument(
        "--against", type=Path, nargs="+", default=[], metavar="FILE", help="other agents"
    )
    parser.add_argument("--processes", type=int, help="as many as there are cores by default")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--plot")
    args = parser.parse_args()
    if args.quick:
        args.loads, args.seeds, args.seconds = [0.7], args.seeds[:1], 3.0
    return args


if __name__ == "__main__":
    sys.exit(main())
