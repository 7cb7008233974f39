"""What the agent chooses from: batch size times number of concurrent instances."""

from __future__ import annotations

from typing import NamedTuple

BATCHES = (1, 2, 4, 8, 16, 32)
# groups of one function that a worker has at once
INSTANCES = (1, 2, 3, 4)


class Action(NamedTuple):
    """One point of the grid."""

    batch: int
    instances: int


ACTIONS = tuple(Action(batch, instances) for batch in BATCHES for instances in INSTANCES)
