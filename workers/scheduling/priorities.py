"""Which priority goes first. Pure.

Higher priorities go first, whatever is due, until a lower one has waited `OVERTAKEN_S` for each
step between them, since its oldest job came or since it was served last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from workers.scheduling.pending import Pending

# For how long a step of priority lets others overtake.
OVERTAKEN_S = 1.0
NEVER: Mapping[int, float] = MappingProxyType({})


def by_age(pending: Pending, now_s: float, served_s: Mapping[int, float]) -> Sequence[int]:
    """The priorities that wait, each raised by how long it has.

    `served_s`: when a job of each was served last.
    """

    def rank(priority: int) -> tuple[float, int]:
        since_s = max(oldest[priority].accepted_at_s, served_s.get(priority, 0.0))
        return -priority - (now_s - since_s) / OVERTAKEN_S, -priority

    oldest = pending.oldest()
    return sorted(oldest, key=rank)
