"""The last transitions, to learn from in random order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Transition(NamedTuple):
    """What one decision led to; a batch of them has the same fields with a leading axis."""

    state: Tensor  # [features] float32
    allowed: Tensor  # [actions] bool
    action: Tensor  # [] int64
    reward: Tensor  # [] float32
    next_state: Tensor  # [features] float32
    next_allowed: Tensor  # [actions] bool
    # 0 where nothing follows
    goes_on: Tensor  # [] float32


class Replay:
    """A ring of at most `capacity` transitions."""

    def __init__(self, capacity: int, features: int, actions: int) -> None:
        self.capacity = capacity
        self._ring = Transition(
            torch.zeros(capacity, features),
            torch.zeros(capacity, actions, dtype=torch.bool),
            torch.zeros(capacity, dtype=torch.int64),
            torch.zeros(capacity),
            torch.zeros(capacity, features),
            torch.zeros(capacity, actions, dtype=torch.bool),
            torch.zeros(capacity),
        )
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    def add(self, transition: Transition) -> None:
        """Take in a transition; the oldest leaves when the ring is full."""
        at = self._added % self.capacity
        for column, value in zip(self._ring, transition, strict=True):
            column[at] = value
        self._added += 1

    def sample(self, count: int, generator: torch.Generator) -> Transition:
        """So many transitions, drawn with replacement; raises ValueError when there are none."""
        if not self._added:
            raise ValueError("replay: expected transitions to sample from, got none")
        rows = torch.randint(len(self), (count,), generator=generator)
        return Transition(*(column[rows] for column in self._ring))

    def states(self) -> Tensor:
        """All states that are in it, [n, features]."""
        return self._ring.state[: len(self)]
