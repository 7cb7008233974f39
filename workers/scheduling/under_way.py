"""The groups that workers have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class UnderWay(NamedTuple):
    """A group that a worker has."""

    worker: str
    predicted_s: float
    # when its leases run out, unless its worker has begun it and renews them; Unix seconds
    lease_end_s: float
    # jobs by function; none where another scheduler sent the group
    jobs: Mapping[str, int] = MappingProxyType({})
    # Unix seconds; 0 where nobody knows
    sent_at_s: float = 0.0


def remaining_s(groups: Sequence[UnderWay], ended_at_s: float, now_s: float | None) -> float | None:
    """Until all groups of a worker have ended; they run in the order they were sent.

    `ended_at_s`: when it ended its last group; None where nobody knows when they began.
    """
    if now_s is None or not groups or not all(group.sent_at_s for group in groups):
        return None
    began_at_s = max(groups[0].sent_at_s, ended_at_s)
    first_s = max(0.0, began_at_s + groups[0].predicted_s - now_s)
    return first_s + sum(group.predicted_s for group in groups[1:])
