"""The last transitions, to learn from in random order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from workers.scheduling.policies.bcedge.networks import Bools, Floats


class Transition(NamedTuple):
    """What one decision led to."""

    state: Floats  # [features]
    allowed: Bools  # [actions]
    action: int
    reward: float
    next_state: Floats  # [features]
    next_allowed: Bools  # [actions]
    # 0 where nothing follows
    goes_on: float = 1.0


class Batch(NamedTuple):
    """The same of `n` transitions."""

    state: Tensor  # [n, features] float32
    allowed: Tensor  # [n, actions] bool
    action: Tensor  # [n] int64
    reward: Tensor  # [n] float32
    next_state: Tensor  # [n, features] float32
    next_allowed: Tensor  # [n, actions] bool
    goes_on: Tensor  # [n] float32


class Replay:
    """A ring of at most `capacity` transitions."""

    def __init__(self, capacity: int, features: int, actions: int) -> None:
        self.capacity = capacity
        self._ring = Batch(
            torch.zeros(capacity, features),
            torch.zeros(capacity, actions, dtype=torch.bool),
            torch.zeros(capacity, dtype=torch.int64),
            torch.zeros(capacity),
            torch.zeros(capacity, features),
            torch.zeros(capacity, actions, dtype=torch.bool),
            torch.zeros(capacity),
        )
        self._rows = [column.numpy() for column in self._ring]
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    def add(self, transition: Transition) -> None:
        """Take in a transition; the oldest leaves when the ring is full."""
        at = self._added % self.capacity
        for column, value in zip(self._rows, transition, strict=True):
            column[at] = value
        self._added += 1

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """So many transitions, drawn with replacement; raises ValueError when there are none."""
        if not self._added:
            raise ValueError("replay: expected transitions to sample from, got none")
        rows = torch.randint(len(self), (count,), generator=generator)
        return Batch(*(column[rows] for column in self._ring))

    def states(self) -> Tensor:
        """All states that are in it, [n, features]."""
        return self._ring.state[: len(self)]
