"""How much longer a group takes beside others: a small network, as in BCEdge.

It regresses the logarithm of the slowdown, the time from sending a group until its report over the
predicted time of the group alone, on the group, what its worker has, and the worker's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import log

import numpy as np
import torch
from torch import nn
from torch.nn.functional import smooth_l1_loss

from workers.scheduling.policies.bcedge.grid import BATCHES, INSTANCES
from workers.scheduling.policies.bcedge.networks import Floats, Forward, mlp
from workers.scheduling.policies.bcedge.state import Look

# log time alone, log2 of its rows, own and other groups beside it, their time over its own, memory
INPUTS = 6
_ROWS = np.log2(np.array(BATCHES, np.float32))[:, None]
_OTHERS = np.array(INSTANCES, np.float32) - 1
_HIDDEN = 32
_CAPACITY, _BATCH, _RATE = 8_192, 128, 2e-3


class Predictor(nn.Module):
    """The regression, and the measurements it learns from."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.net = mlp(INPUTS, _HIDDEN, _HIDDEN, 1)
        self._random = torch.Generator().manual_seed(seed)
        self._ring = torch.zeros(_CAPACITY, INPUTS + 1)
        self._forward = Forward(self.net)
        self._rows = self._ring.numpy()
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, _CAPACITY)

    @cached_property
    def _steps(self) -> torch.optim.Optimizer:
        # who only predicts needs none
        return torch.optim.Adam(self.net.parameters(), _RATE, fused=True)

    def slowdown(self, inputs: Floats) -> Floats:
        """Of groups [..., INPUTS]: [...], at least 1."""
        found: Floats = np.exp(self._forward(inputs)[..., 0].clip(0.0, 5.0))
        return found

    def add(self, inputs: Floats, slowdown: float) -> None:
        """Take in a measurement, `inputs` [INPUTS]; the oldest leaves when there are too many."""
        row = self._rows[self._added % _CAPACITY]
        row[:INPUTS] = inputs
        row[INPUTS] = log(max(slowdown, 1e-3))
        self._added += 1

    def learn(self) -> float:
        """One step on measurements drawn at random; the loss."""
        rows = self._ring[torch.randint(len(self), (_BATCH,), generator=self._random)]
        loss = smooth_l1_loss(self.net(rows[:, :INPUTS])[:, 0], rows[:, INPUTS])
        self._steps.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._steps.step()
        return float(loss.detach())


def inputs_of(looks: Sequence[Look], alone_s: Floats) -> Floats:
    """The predictor's inputs for every action: [looks, batches, instances, INPUTS].

    `alone_s` [looks, batches]. An action of c instances runs beside c - 1 others at most.
    """
    of_look = [(k.own_groups, k.all_groups, k.under_way_s, k.free_share) for k in looks]
    own, groups, under_way_s, free = np.array(of_look, np.float32).T[:, :, None, None]
    alone = alone_s[:, :, None]
    beside = np.minimum(own, _OTHERS)
    remaining_s = under_way_s * (groups - own + beside) / np.maximum(groups, 1)
    found = np.empty((len(looks), len(BATCHES), len(INSTANCES), INPUTS), np.float32)
    found[..., 0] = np.log(alone)
    found[..., 1] = _ROWS
    found[..., 2] = beside
    found[..., 3] = groups - own
    found[..., 4] = np.log1p(remaining_s / alone)
    found[..., 5] = free
    return found
