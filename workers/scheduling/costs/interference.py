"""What members of a group add to, or save, each other: a factor on the sum of their times."""

from __future__ import annotations

from collections.abc import Iterable

from contract.function import FunctionRef
from workers.scheduling.costs.curves import bucket_of
from workers.scheduling.costs.samples import Recent

# Sets of members that have a factor of their own; the least lately run go.
SETS = 1024
# The factor of a set counts as much as that of all sets of its size after so many runs.
SET_RUNS = 2.0
# A factor beyond this is no interference but something else, once.
MOST = 4.0
# Groups of a size that tell what members of it add to each other.
KNOWN_GROUPS = 8

# (function, row bucket) of each member
Members = frozenset[tuple[FunctionRef, int]]


def members_of(rows: Iterable[tuple[FunctionRef, int]]) -> Members:
    """The set that a group is known by."""
    return frozenset((ref, bucket_of(n)) for ref, n in rows)


class Interference:
    """Ratios of measured group times to the sums of their members' times.

    By set of members, drawn towards the ratio of all groups with as many members and lanes; 1 where
    nothing is known, which is right on one core.
    """

    def __init__(self) -> None:
        self.by_size: dict[tuple[int, int], Recent] = {}
        # the last run last
        self.by_set: dict[Members, Recent] = {}

    def size_factor(self, members: int, lanes: int) -> float:
        """Of groups of this many members on this many lanes."""
        recent = self.by_size.get((members, lanes))
        return recent.median() if recent else 1.0

    def is_known(self, members: int, lanes: int) -> bool:
        """Whether enough groups of so many members have run to tell."""
        recent = self.by_size.get((members, lanes))
        return recent is not None and len(recent) >= KNOWN_GROUPS

    def factor(self, members: Members, lanes: int) -> float:
        """Of this set of members."""
        factor = self.size_factor(len(members), lanes)
        recent = self.by_set.get(members)
        if recent is None:
            return factor
        runs = len(recent.likely())
        weight = runs / (runs + SET_RUNS)
        # ratios average as their logarithms do
        return float(recent.median() ** weight * factor ** (1 - weight))

    def learn(self, members: Members, lanes: int, ratio: float, way: str) -> list[Members]:
        """Take in a group's ratio; the sets that were given up for it."""
        ratio = min(max(ratio, 1 / MOST), MOST)
        # strategies differ from set to set: of the size, every one counts
        self.by_size.setdefault((len(members), lanes), Recent()).add("", 1, ratio)
        recent = self.by_set.pop(members, None) or Recent()
        recent.add(way, 1, ratio)
        self.by_set[members] = recent
        given_up = []
        while len(self.by_set) > SETS:
            given_up.append(next(iter(self.by_set)))
            del self.by_set[given_up[-1]]
        return given_up

    def forget(self, ref: FunctionRef) -> list[Members]:
        """Drop sets with this member."""
        gone = [members for members in self.by_set if any(ref == its for its, _ in members)]
        for members in gone:
            del self.by_set[members]
        return gone
