"""Which actions may be chosen: what the batch and the memory allow, and what keeps the SLO."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.scheduling.policies.bcedge.grid import ACTIONS, BATCHES, INSTANCES
from workers.scheduling.policies.bcedge.state import Look


def possible(look: Look) -> list[bool]:
    """By action: batches that the function and the memory hold, instances that have places."""
    places = max(look.worker.free_places + look.all_groups, 1)
    batches = {batch for batch in BATCHES if batch == 1 or _fits(look, batch)}
    return [a.batch in batches and a.instances <= places for a in ACTIONS]


def _fits(look: Look, batch: int) -> bool:
    view, worker = look.view, look.worker
    if not view.is_batchable or batch > view.max_batch:
        return False
    weights = 0 if look.ref in worker.resident else view.weight_bytes
    return weights + view.activation_bytes_at(batch) <= worker.budget_bytes


def in_time(looks: Sequence[Look], alone_s: Tensor, slowdown: Tensor) -> Tensor:
    """[looks, actions] bool: whether the most urgent job is predicted to be answered in its SLO.

    `alone_s` [looks, batches], `slowdown` [looks, batches, instances].
    """
    left_s = torch.tensor([look.jobs[0].due_at_s - look.now_s for look in looks])
    fill_s = torch.tensor([[_fill_s(look, batch) for batch in BATCHES] for look in looks])
    turn_s = torch.tensor([[_turn_s(look, c) for c in INSTANCES] for look in looks])
    takes_s = torch.maximum(fill_s[:, :, None], turn_s[:, None, :]) + alone_s[..., None] * slowdown
    return (takes_s <= left_s[:, None, None]).flatten(1)


def _fill_s(look: Look, batch: int) -> float:
    """Until a batch is sent at the latest."""
    return 0.0 if look.rows >= batch else max(0.0, look.send_by_s - look.now_s)


def _turn_s(look: Look, instances: int) -> float:
    """Until fewer than so many of its groups are under way."""
    ends = look.own_groups - instances + 1
    return look.under_way_s * ends / look.all_groups if ends > 0 else 0.0


def allowed(kept: Tensor, can: Tensor) -> Tensor:
    """[n, actions] bool: what can be and keeps the SLO; where nothing does, what can be."""
    both = kept & can
    return torch.where(both.any(dim=1, keepdim=True), both, can)
