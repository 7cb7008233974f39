"""How much longer a group takes beside others: a small network, as in BCEdge.

It regresses the logarithm of the slowdown, the time from sending a group until its report over the
predicted time of the group alone, on the group, what its worker has, and the worker's memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from workers.scheduling.policies.bcedge.grid import BATCHES, INSTANCES
from workers.scheduling.policies.bcedge.networks import mlp
from workers.scheduling.policies.bcedge.state import Look

# log time alone, log2 of its rows, own and other groups beside it, their time over its own, memory
INPUTS = 6
_HIDDEN = 32
_CAPACITY, _BATCH, _RATE = 8_192, 128, 2e-3


class Predictor(nn.Module):
    """The regression, and the measurements it learns from."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.net = mlp(INPUTS, _HIDDEN, _HIDDEN, 1)
        self._random = torch.Generator().manual_seed(seed)
        self._steps = torch.optim.Adam(self.net.parameters(), _RATE)
        self._ring = torch.zeros(_CAPACITY, INPUTS + 1)
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, _CAPACITY)

    @torch.no_grad()
    def slowdown(self, inputs: Tensor) -> Tensor:
        """Of groups [..., INPUTS] float32: [...], at least 1."""
        found: Tensor = self.net(inputs)
        return found[..., 0].clamp(0.0, 5.0).exp()

    def add(self, inputs: Tensor, slowdown: float) -> None:
        """Take in a measurement; the oldest leaves when there are too many."""
        row = self._ring[self._added % _CAPACITY]
        row[:INPUTS] = inputs
        row[INPUTS] = torch.tensor(max(slowdown, 1e-3)).log()
        self._added += 1

    def learn(self) -> float:
        """One step on measurements drawn at random; the loss."""
        rows = self._ring[torch.randint(len(self), (_BATCH,), generator=self._random)]
        loss = smooth_l1_loss(self.net(rows[:, :INPUTS])[:, 0], rows[:, INPUTS])
        self._steps.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._steps.step()
        return float(loss.detach())


def inputs_of(looks: Sequence[Look], alone_s: Tensor) -> Tensor:
    """The predictor's inputs for every action: [looks, batches, instances, INPUTS].

    `alone_s` [looks, batches]. An action of c instances runs beside c - 1 others at most.
    """
    shape = len(looks), len(BATCHES), len(INSTANCES)

    def each(values: Sequence[float]) -> Tensor:
        return torch.tensor(values)[:, None, None].expand(shape)

    own = each([float(look.own_groups) for look in looks])
    groups = each([float(look.all_groups) for look in looks])
    beside = torch.minimum(own, torch.tensor(INSTANCES) - 1.0)
    remaining = (groups - own + beside) / groups.clamp(min=1.0)
    under_way_s = each([look.under_way_s for look in looks]) * remaining
    alone = alone_s[:, :, None].expand(shape)
    rows = torch.tensor(BATCHES).float().log2()[None, :, None].expand(shape)
    columns = [
        alone.log(),
        rows,
        beside,
        groups - own,
        (under_way_s / alone).log1p(),
        each([look.free_share for look in looks]),
    ]
    return torch.stack(columns, dim=-1)
