"""Discrete soft actor-critic (Christodoulou, 2019): rewards and entropy, maximised together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from workers.scheduling.policies.bcedge.networks import Networks
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
    entropy: float = 0.2


class Agent:
    """Chooses actions and learns from replayed transitions; all that is random has one seed."""

    def __init__(
        self, networks: Networks, actions: int, seed: int = 0, learning: Learning | None = None
    ) -> None:
        self.networks = networks
        self.learning = learning or Learning()
        self.random = torch.Generator().manual_seed(seed)
        self.replay = Replay(self.learning.capacity, networks.mean.numel(), actions)
        rate = self.learning.rate
        self._critic_steps = torch.optim.Adam(networks.critics.parameters(), rate)
        self._actor_steps = torch.optim.Adam(networks.actor.parameters(), rate)
        self._temperature_steps = torch.optim.Adam([networks.log_temperature], rate)

    @torch.no_grad()
    def act(self, states: Tensor, allowed: Tensor, explores: bool) -> list[int]:
        """An action for each state [n, features]: drawn from the policy, or its most likely one."""
        log_policy = self.networks.log_policy(self.networks.normalised(states), allowed)
        if not explores:
            return log_policy.argmax(dim=-1).tolist()
        drawn = torch.multinomial(log_policy.exp(), 1, generator=self.random)
        return drawn[:, 0].tolist()

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
        taken = [critic(states).gather(1, batch.action[:, None])[:, 0] for critic in nets.critics]
        loss = sum((smooth_l1_loss(q, aim) for q in taken), torch.zeros(()))
        _step(self._critic_steps, loss)
        with torch.no_grad():
            worth = torch.minimum(*(critic(states) for critic in nets.critics))
        log_policy = nets.log_policy(states, batch.allowed)
        policy = log_policy.exp()
        _step(self._actor_steps, (policy * (temperature * log_policy - worth)).sum(dim=-1).mean())
        entropy = -(policy * log_policy).sum(dim=-1).detach()
        aimed = how.entropy * batch.allowed.sum(dim=-1).float().log()
        _step(self._temperature_steps, (nets.log_temperature * (entropy - aimed)).mean())
        self._follow()
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Targets move a little towards their critics."""
        targets = self.networks.targets.parameters()
        for target, critic in zip(targets, self.networks.critics.parameters(), strict=True):
            target.lerp_(critic, self.learning.soft_update)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
