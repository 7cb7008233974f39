"""What a simulated device holds: weights by least recent use, and fused DAGs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Set
from typing import NamedTuple

from contract.function import FunctionRef
from fusion.lru import ByteLru
from workers.scheduling.costs.interference import Members, members_of
from workers.scheduling.records import FunctionView


class Loads(NamedTuple):
    """Weights that a group brings in."""

    host_bytes: int = 0
    disk_bytes: int = 0
    count: int = 0

    @property
    def bytes(self) -> int:
        """From wherever."""
        return self.host_bytes + self.disk_bytes


NO_LOADS = Loads()


class Weights:
    """The product's accounting of slots: pins, least recent use, all or nothing."""

    def __init__(self, budget_bytes: int, functions: Mapping[FunctionRef, FunctionView]) -> None:
        self._budget_bytes = budget_bytes
        self._functions = functions
        self._held: ByteLru[FunctionRef, None] = ByteLru()
        self._scratch_bytes = 0
        self.resident: frozenset[FunctionRef] = frozenset()
        # read from disk once, they are in the page cache
        self.hosted: frozenset[FunctionRef] = frozenset()

    @property
    def bytes(self) -> int:
        """Bytes of what is resident."""
        return self._held.bytes

    def warm(self) -> None:
        """Bring in functions as they come, until one does not fit."""
        for ref, view in self._functions.items():
            if self._held.bytes + view.weight_bytes <= self._budget_bytes:
                self._held.put(ref, None, view.weight_bytes)
        self.resident = frozenset(self._held)
        self.hosted = frozenset(self._functions)

    def acquire(self, rows: Mapping[FunctionRef, int]) -> Loads | None:
        """Pin the weights of a group and take room for its activations; None: not now.

        A group larger than the budget is taken when nothing else is pinned: in the product it runs
        in parts, or in blocks.
        """
        cold = [ref for ref in rows if ref not in self._held]
        scratch, cold_bytes = self._scratch_of(rows), sum(map(self._size, cold))
        if not self._make_room(cold_bytes + scratch, rows):
            return None
        disk_bytes = sum(self._size(ref) for ref in cold if ref not in self.hosted)
        loads = Loads(cold_bytes - disk_bytes, disk_bytes, len(cold))
        for ref in cold:
            self._held.put(ref, None, self._size(ref))
        for ref in rows:
            self._held.pin(ref)
            self._held.touch(ref)
        self._scratch_bytes += scratch
        if cold:
            self.hosted = self.hosted.union(cold)
            self.resident = frozenset(self._held)
        return loads

    def release(self, rows: Mapping[FunctionRef, int]) -> None:
        """Undo one `acquire`; the weights stay."""
        for ref in rows:
            self._held.unpin(ref)
        self._scratch_bytes -= self._scratch_of(rows)

    def check_integrity(self) -> None:
        """Raise AssertionError unless the accounts are right."""
        self._held.check_integrity()
        assert self.resident == frozenset(self._held)
        assert self._scratch_bytes >= 0

    def _size(self, ref: FunctionRef) -> int:
        return self._functions[ref].weight_bytes

    def _scratch_of(self, rows: Mapping[FunctionRef, int]) -> int:
        return sum(self._functions[ref].activation_bytes_at(count) for ref, count in rows.items())

    def _make_room(self, needed: int, rows: Mapping[FunctionRef, int]) -> bool:
        lacking = self._held.bytes + self._scratch_bytes + needed - self._budget_bytes
        if lacking <= 0:
            return True
        victims = self._held.victims(lacking, spare=rows)
        if not victims:
            if self._held.pinned_bytes or self._scratch_bytes:
                return False
            victims = [ref for ref in self._held if ref not in rows]
        for ref in victims:
            self._held.pop(ref)
        self.resident = frozenset(self._held)
        return True


class Dags:
    """Which fused DAGs are in the cache."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Members, None] = OrderedDict()

    @property
    def kept(self) -> Set[Members]:
        """The groups whose DAGs are there, now and later."""
        return self._kept.keys()

    def find(self, rows: Mapping[FunctionRef, int]) -> bool:
        """Whether a group's DAG is there; afterwards it is."""
        key = members_of(rows.items())
        is_there = key in self._kept
        self._kept[key] = None
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return is_there
