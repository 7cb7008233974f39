"""Train the `bcedge` policy in the simulator.

Every seed trains an agent on platforms drawn at random (`_bcedge_training.py`); between episodes it
is measured, without exploring, on two platforms that no seed trains on. The agent with the highest
utility there at its end is the one to ship (`--ship`); `bcedge.py` plays it against other policies.
Time is simulated: a busy machine changes how long this takes, not what comes out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

import torch
from _bcedge_training import Trainee, random_profile, random_workload, rates_at
from _plot import line_plot
from _processes import spread
from _report import environment, header
from simulator import Fleet, Profile, simulate
from simulator.workloads import poisson

from workers.scheduling.policies import Policy
from workers.scheduling.policies.bcedge import weights

ROOT = Path(__file__).parents[1]
EPISODE_S = 8.0
GROUPS_PER_STEP = 2
VALIDATION_LOADS = (0.4, 0.8, 1.1)
VALIDATION_S = 8.0


class Point(NamedTuple):
    """A measurement between episodes."""

    groups: int
    steps: int
    utility: float
    violations: float


def main() -> int:
    """Train, choose, ship."""
    args = _arguments()
    print(header())
    args.folder.mkdir(parents=True, exist_ok=True)
    work = partial(trained, args.groups, args.points, args.folder)
    curves = dict(zip(args.seeds, spread(work, args.seeds, args.processes), strict=True))
    kept = max(curves, key=lambda seed: curves[seed][-1].utility)
    print(f"seed {kept} is kept")
    if args.ship:
        weights.SHIPPED.write_bytes(_weights(args.folder, kept).read_bytes())
    if args.json:
        written = {
            "environment": environment(),
            "kept": kept,
            "curves": {k: [p._asdict() for p in curve] for k, curve in curves.items()},
        }
        Path(args.json).write_text(json.dumps(written, indent=1) + "\n")
    if args.plot:
        series = {
            f"seed {k}": [(p.groups / 1000, p.utility) for p in curve]
            for k, curve in curves.items()
        }
        line_plot(args.plot, "bcedge in training", "thousand groups", "utility", series)
    return 0


def trained(groups: int, points: int, folder: Path, seed: int) -> list[Point]:
    """The learning curve of this seed, whose agent is in the folder; trained if it is not there."""
    torch.set_num_threads(1)
    known = folder / f"seed-{seed}.json"
    if not known.exists():
        trainee, curve = train(seed, groups, points)
        about = {"seed": str(seed), "groups": str(trainee.groups)}
        data = weights.encode(trainee.agent.networks, trainee.predictor, about)
        _weights(folder, seed).write_bytes(data)
        known.write_text(json.dumps(curve))
    return [Point(*point) for point in json.loads(known.read_text())]


def _weights(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}.safetensors"


def train(seed: int, groups: int, points: int) -> tuple[Trainee, list[Point]]:
    """An agent of this seed after so many groups, and its learning curve."""
    random, trainee = Random(seed), Trainee(seed)
    curve: list[Point] = []
    while True:
        if trainee.groups >= len(curve) * groups / (points - 1):
            curve.append(validate(trainee))
            print(f"seed {seed}", *(f"{k}={v:.4g}" for k, v in curve[-1]._asdict().items()))
            sys.stdout.flush()
        if trainee.groups >= groups and len(curve) >= points:
            return trainee, curve
        profile = random_profile(random)
        workload = random_workload(profile, random.uniform(0.2, 1.3), EPISODE_S, random)
        fleet = Fleet.of(1, places=random.choice((2, 2, 3, 4)))
        trainee.episode(profile, workload, fleet, random.randrange(2**31), GROUPS_PER_STEP)


def validate(trainee: Trainee) -> Point:
    """Utility and violations, the mean over platforms and loads that are the same for all."""
    found = []
    for number in (1, 2):
        profile = random_profile(Random(f"validation {number}"))
        for load in VALIDATION_LOADS:
            fleet = Fleet.of(1)
            policy = trainee.policy(fleet, adapts=False)
            found.append(play(policy, profile, load, VALIDATION_S, number))
    utilities, violations = zip(*found, strict=True)
    return Point(trainee.groups, trainee.steps, fmean(utilities), fmean(violations))


def play(
    policy: str | Policy, profile: Profile, load: float, seconds: float, seed: int
) -> tuple[float, float]:
    """Utility and share of SLOs violated of one run; its first tenth is left out."""
    workload = poisson(rates_at(profile, load), seconds, seed)
    report = simulate(policy, workload, Fleet.of(1), profile, seed)
    summary = report.summary(seconds / 10, seconds)
    return summary.utility, summary.violations


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--groups", type=int, default=10_000, help="that each agent learns from")
    parser.add_argument("--points", type=int, default=8, help="of each learning curve")
    parser.add_argument(
        "--folder", type=Path, help="of trained agents; those in it are not trained again"
    )
    parser.add_argument("--processes", type=int, help="as many as there are cores by default")
    parser.add_argument("--ship", action="store_true", help="replace the agent that is shipped")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--plot")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.groups, args.points = args.seeds[:1], 600, 2
    if args.folder is None:
        args.folder = Path(tempfile.mkdtemp(prefix="bcedge-"))
    return args


if __name__ == "__main__":
    sys.exit(main())
