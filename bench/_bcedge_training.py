"""Training of the `bcedge` policy: simulated platforms at random, and an agent that learns in them.

No profile of training is one of those that policies are compared on.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from random import Random

import torch
from simulator import (
    Answer,
    Delays,
    Fleet,
    FunctionProfile,
    JobRecord,
    Profile,
    Workload,
    simulate,
)
from simulator.profiles import line_through
from simulator.workloads import gamma_bursts, poisson

from contract.store.queue import GroupReport
from workers.scheduling.policies.bcedge.agent import Agent, Learning
from workers.scheduling.policies.bcedge.grid import ACTIONS
from workers.scheduling.policies.bcedge.interference import Predictor
from workers.scheduling.policies.bcedge.networks import Networks
from workers.scheduling.policies.bcedge.policy import LEARN_FROM, BCEdge
from workers.scheduling.policies.bcedge.state import FEATURES

FUNCTIONS = 6
ROWS = (1, 2, 4, 8, 16, 32)
# A load of 1: functions have equal parts of the device, in batches of this many rows.
CAPACITY_BATCH = 8
# name, seconds of a row, what a further row takes of that, bytes of weights and of a row
_SIX = (
    ("yolo", 0.012, 0.9, 28_000_000, 4_000_000),
    ("mobilenet", 0.004, 0.6, 14_000_000, 1_500_000),
    ("resnet18", 0.008, 0.8, 45_000_000, 2_000_000),
    ("efficientnet", 0.006, 0.6, 21_000_000, 2_000_000),
    ("inception", 0.010, 0.8, 95_000_000, 3_000_000),
    ("tinybert", 0.003, 0.4, 58_000_000, 500_000),
)
DELAYS = Delays((0.001,), (0.0002,), (0.0003,), (0.0007,), (0.0007,), (0.0005,))


class Trainee:
    """An agent and what has become of it so far."""

    def __init__(self, seed: int, learning: Learning | None = None) -> None:
        torch.manual_seed(seed)
        networks = Networks(len(FEATURES), len(ACTIONS))
        self.agent = Agent(networks, len(ACTIONS), seed, learning)
        self.predictor = Predictor(seed)
        # groups that were reported; steps of learning
        self.groups = self.steps = 0
        self._is_normalised = False

    def policy(self, fleet: Fleet, adapts: bool) -> BCEdge:
        """The agent as a policy."""
        policy = BCEdge(fleet.limits, self.agent, self.predictor)
        policy.adapts = adapts
        return policy

    def episode(
        self, profile: Profile, workload: Workload, fleet: Fleet, seed: int, groups_per_step: int
    ) -> None:
        """Learn while a workload runs on one worker."""
        policy = self.policy(fleet, adapts=True)
        [device] = fleet.devices
        reported: set[int] = set()

        def heard(job: JobRecord) -> None:
            if job.outcome is not Answer.ANSWERED or job.group in reported:
                return
            reported.add(job.group)
            members = [(job.function, 1, job.rows)]
            report = GroupReport(str(job.group), device.id, members, 0.0, 0.0, 0.0)
            policy.observe(report, job.ended_s)
            self.groups += 1
            if self.groups % groups_per_step == 0:
                self._learn(policy)

        simulate(policy, workload, fleet, profile, seed, heard=heard)

    def _learn(self, policy: BCEdge) -> None:
        if not self._is_normalised:
            if len(self.agent.replay) < 4 * LEARN_FROM:
                return
            self.agent.normalise()
            self._is_normalised = True
        policy.learn()
        self.steps += 1


def random_profile(random: Random) -> Profile:
    """Functions of 2 to 30 ms, that gain by batching or hardly, with SLOs of 4 to 25 times that."""
    functions = {}
    for k in range(FUNCTIONS):
        row_s = _between(random, 0.002, 0.03)
        slo_s = (row_s + 0.004) * _between(random, 4, 25)
        functions[f"f{k}"] = FunctionProfile(
            compute_times(row_s, random.uniform(0.2, 1.0), random),
            slo_s,
            max(1.0, 10 * slo_s),
            weight_bytes=int(_between(random, 1e6, 2e8)),
            activation_bytes=int(_between(random, 1e5, 1e7)),
            max_batch=random.choice((16, 32)),
        )
    return Profile(functions, DELAYS)


def six(random: Random) -> Profile:
    """Six functions like BCEdge's, their times assumed.

    SLOs are 60 ms and six times a row alone: a batch of another function fits before each.
    """
    functions = {
        name: FunctionProfile(
            compute_times(row_s, growth, random),
            0.06 + 6 * row_s,
            1.0,
            weight_bytes=weight_bytes,
            activation_bytes=activation_bytes,
        )
        for name, row_s, growth, weight_bytes, activation_bytes in _SIX
    }
    return Profile(functions, DELAYS)


def compute_times(row_s: float, growth: float, random: Random) -> dict[int, list[float]]:
    """Samples by rows: `growth` is what each further row takes of the first one's time."""
    return {
        rows: [
            row_s * (1 - growth + growth * rows) * random.lognormvariate(0, 0.08) for _ in range(16)
        ]
        for rows in ROWS
    }


def random_workload(profile: Profile, load: float, seconds: float, random: Random) -> Workload:
    """Poisson calls, or bursts; each function's part of the load is its own."""
    parts = {name: random.uniform(0.3, 1.7) for name in profile.functions}
    mean = sum(parts.values()) / len(parts)
    rates = {name: rate * parts[name] / mean for name, rate in rates_at(profile, load).items()}
    seed = random.randrange(2**31)
    if random.random() < 0.3:
        return gamma_bursts(rates, seconds, seed, cv=2.0)
    return poisson(rates, seconds, seed)


def rates_at(profile: Profile, load: float) -> Mapping[str, float]:
    """Calls per second of each function, at this load."""
    share = load / len(profile.functions)
    return {
        name: share * CAPACITY_BATCH / line_through(its.compute_s)(CAPACITY_BATCH)
        for name, its in profile.functions.items()
    }


def _between(random: Random, low: float, high: float) -> float:
    """Log-uniform."""
    return exp(random.uniform(log(low), log(high)))
