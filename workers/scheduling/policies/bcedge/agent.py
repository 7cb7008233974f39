"""Discrete soft actor-critic (Christodoulou, 2019): rewards and entropy, maximised together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from workers.scheduling.policies.bcedge.networks import FAR, Bools, Floats, Forward, Networks
from workers.scheduling.policies.bcedge.replay import Replay


@dataclass(frozen=True)
class Learning:
    """How the agent learns."""

    rate: float = 1e-3
    discount: float = 0.9
    # part of the critics that their targets take over with each step
    soft_update: float = 0.01
    batch: int = 64
    capacity: int = 20_000
    # entropy aimed at, as a part of what choosing at random among the allowed has
    entropy: float = 0.1


class Agent:
    """Chooses actions and learns from replayed transitions; all that is random has one seed."""

    def __init__(
        self, networks: Networks, actions: int, seed: int = 0, learning: Learning | None = None
    ) -> None:
        self.networks = networks
        self.learning = learning or Learning()
        self.random = torch.Generator().manual_seed(seed)
        self._noise = np.random.default_rng(seed)
        self._actor = Forward(networks.actor)
        self._normal = networks.mean.numpy(), networks.scale.numpy()
        self._actions = actions
        critics, targets = networks.critics.parameters(), networks.targets.parameters()
        self._followed: tuple[list[Tensor], list[Tensor]] = [*critics], [*targets]

    # who only acts needs neither of these
    @cached_property
    def replay(self) -> Replay:
        """What it learns from."""
        return Replay(self.learning.capacity, self.networks.mean.numel(), self._actions)

    @cached_property
    def _steps(self) -> torch.optim.Optimizer:
        # the three losses are of different parameters: one backward and one step do for all
        learned = [p for p in self.networks.parameters() if p.requires_grad]
        return torch.optim.Adam(learned, self.learning.rate, fused=True)

    def act(self, states: Floats, allowed: Bools, explores: bool) -> list[int]:
        """An action for each state [n, features]: drawn from the policy, or its most likely one.

        `allowed` [n, actions].
        """
        mean, scale = self._normal
        logits = self._actor(np.clip((states - mean) / scale, -FAR, FAR))
        if explores:
            # the largest of logits with Gumbel noise is a draw from their softmax
            logits = logits + self._noise.gumbel(size=logits.shape).astype(np.float32)
        chosen: list[int] = np.where(allowed, logits, -np.inf).argmax(axis=-1).tolist()
        return chosen

    def normalise(self) -> None:
        """Measure by the states in replay how states are normalised from now on."""
        states = self.replay.states()
        self.networks.mean.copy_(states.mean(dim=0))
        # a feature that never changed says nothing, and must not count when it does
        self.networks.scale.copy_(states.std(dim=0).clamp(min=0.1))

    def learn(self) -> float:
        """One step of every network on replayed transitions; the critics' loss."""
        nets, how = self.networks, self.learning
        batch = self.replay.sample(how.batch, self.random)
        states, then = nets.normalised(batch.state), nets.normalised(batch.next_state)
        temperature = nets.log_temperature.detach().exp()
        with torch.no_grad():
            log_then = nets.log_policy(then, batch.next_allowed)
            worth = torch.minimum(*(target(then) for target in nets.targets))
            value = (log_then.exp() * (worth - temperature * log_then)).sum(dim=-1)
            aim = batch.reward + how.discount * batch.goes_on * value
        worths = [critic(states) for critic in nets.critics]
        taken = [worth.gather(1, batch.action[:, None])[:, 0] for worth in worths]
        critics_loss = sum((smooth_l1_loss(q, aim) for q in taken), torch.zeros(()))
        worth = torch.minimum(*worths).detach()
        log_policy = nets.log_policy(states, batch.allowed)
        policy = log_policy.exp()
        actor_loss = (policy * (temperature * log_policy - worth)).sum(dim=-1).mean()
        entropy = -(policy * log_policy).sum(dim=-1).detach()
        aimed = how.entropy * batch.allowed.sum(dim=-1).float().log()
        temperature_loss = (nets.log_temperature * (entropy - aimed)).mean()
        self._steps.zero_grad()
        (critics_loss + actor_loss + temperature_loss).backward()  # type: ignore[no-untyped-call]
        self._steps.step()
        self._follow()
        return float(critics_loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Targets move a little towards their critics."""
        critics, targets = self._followed
        torch._foreach_lerp_(targets, critics, self.learning.soft_update)
