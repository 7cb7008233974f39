"""Members of a group: their order in a DAG, and what two groups must share to share one."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from fusion.codegen import Program
from fusion.ir import WeightSpec

# groups whose keys are not computed again
KEYS_KEPT = 1024


class Member(NamedTuple):
    """A function's place in a group, without its weights."""

    program: Program
    rows: int  # the row bucket: the most rows of a run
    weight_keys: tuple[Hashable, ...] | None = None  # content hash per weight, where known

    @property
    def architecture(self) -> str:
        """Digest of the member's graph."""
        return self.program.graph.architecture


class DagKey(NamedTuple):
    """Two groups of equal key may share a DAG."""

    members: tuple[tuple[str, int], ...]  # (architecture, row bucket), sorted
    shared: tuple[
        tuple[int, int, int, int], ...
    ]  # (member, weight) is the same as (member, weight)

    @property
    def digest(self) -> str:
        """The key as a short name."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:32]


def arrange(members: Sequence[Member]) -> list[int]:
    """The order in which a DAG holds these members, as indices."""
    return sorted(range(len(members)), key=lambda k: (members[k].architecture, members[k].rows))


@dataclass(frozen=True, slots=True)
class _Keyed:
    """What a member has to do with its group's key; equal ones have equal specs."""

    architecture: str
    rows: int
    weight_keys: tuple[Hashable, ...] | None
    specs: tuple[WeightSpec, ...] = field(compare=False)


def dag_key(members: Sequence[Member]) -> DagKey:
    """The key of the DAG of these members."""
    ordered = [members[k] for k in arrange(members)]
    return _dag_key(
        tuple(
            _Keyed(m.architecture, m.rows, m.weight_keys, m.program.graph.weights) for m in ordered
        )
    )


@lru_cache(KEYS_KEPT)
def _dag_key(members: tuple[_Keyed, ...]) -> DagKey:
    shared = []
    # most contents occur with one shape: shapes are compared where contents meet again
    first: dict[Hashable, tuple[int, int]] = {}
    unlike: dict[Hashable, tuple[int, int]] = {}
    for k, member in enumerate(members):
        for i, key in enumerate(member.weight_keys or ()):
            here = (k, i)
            there = first.setdefault(key, here)
            if there is here:
                continue
            _, dtype, shape = member.specs[i]
            if members[there[0]].specs[there[1]][1:] != (dtype, shape):
                there = unlike.setdefault((key, dtype, shape), here)
            if there is not here:
                shared.append((*there, k, i))
    return DagKey(tuple((m.architecture, m.rows) for m in members), tuple(shared))
