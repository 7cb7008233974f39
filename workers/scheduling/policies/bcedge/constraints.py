"""Which actions may be chosen: what the batch and the memory allow, and what keeps the SLO."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from workers.scheduling.costs import Costs
from workers.scheduling.groups import LONG_GROUP_S, Group
from workers.scheduling.policies.bcedge.grid import ACTIONS, BATCHES, INSTANCES
from workers.scheduling.policies.bcedge.networks import Bools, Floats
from workers.scheduling.policies.bcedge.state import Look
from workers.scheduling.records import FunctionView, PendingJob


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


def in_time(looks: Sequence[Look], alone_s: Floats, slowdown: Floats) -> Bools:
    """[looks, actions]: whether the most urgent job is predicted to be answered in its SLO.

    `alone_s` [looks, batches], `slowdown` [looks, batches, instances].
    """
    left_s = np.array([look.jobs[0].due_at_s - look.now_s for look in looks])
    fill_s = np.array([_fill_s(look) for look in looks])
    turn_s = np.array([_turn_s(look) for look in looks])
    starts_s = np.maximum(fill_s[:, :, None], turn_s[:, None, :])
    ends_s = starts_s + alone_s[..., None] * slowdown
    kept: Bools = ends_s <= left_s[:, None, None]
    return kept.reshape(len(looks), -1)


def _fill_s(look: Look) -> list[float]:
    """By batch: until it is sent at the latest."""
    slot_s = max(0.0, look.send_by_s - look.now_s)
    return [0.0 if look.rows >= batch else slot_s for batch in BATCHES]


def _turn_s(look: Look) -> list[float]:
    """By instances: until fewer than so many of its groups are under way."""
    group_s = look.under_way_s / max(look.all_groups, 1)
    return [group_s * max(0, look.own_groups - instances + 1) for instances in INSTANCES]


def allowed(kept: Bools, can: Bools) -> Bools:
    """[n, actions]: what can be and keeps the SLO; where nothing does, what can be."""
    both = kept & can
    found: Bools = np.where(both.any(axis=1, keepdims=True), both, can)
    return found


def can_grow(group: Group, job: PendingJob, view: FunctionView, costs: Costs, now_s: float) -> bool:
    """Whether a batch holds another job of its function, its bytes and all deadlines kept."""
    worker, ref = group.worker, job.function
    rows = group.rows[ref] + job.rows
    if not view.is_batchable or rows > view.max_batch:
        return False
    taken_bytes: float = view.activation_bytes_at(rows)
    if view.weight_bytes <= worker.budget_bytes:
        # a larger one runs in blocks; resident ones take what was measured, at most
        held_bytes = worker.resident_bytes if ref in worker.resident else inf
        taken_bytes += min(view.weight_bytes, held_bytes)
    compute_s = costs.compute_s(ref, rows) / worker.speed
    if taken_bytes > worker.budget_bytes or compute_s > LONG_GROUP_S:
        return False
    swap_s = costs.load_s({ref: view.weight_bytes}, worker)
    end_s = now_s + (worker.under_way_s or 0.0) + swap_s + compute_s
    return end_s <= min(each.deadline_s for each in (*group.jobs, job))
