"""Slots in an arena: any history keeps the books right, nobody overlaps, and all get their turn."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from torch import Tensor

from fusion.arena import GRANULE_BYTES
from fusion.errors import BudgetExceeded, WeightsError
from fusion.slots import Lease, SlotRequest, SlotTable
from fusion.spans import Layout
from fusion.weights import WeightsIndex
from tests.unit.fusion_memory.fakes import FakeClock, FakeParts, FakeSharingLoader, made_of

UNIT = 16 * GRANULE_BYTES  # each of these is a class of its own, and large enough to be lent
ARENA, BESIDE = 20, 4
# contents and units of the functions' tensors: two families of siblings, and others
FUNCTIONS: Mapping[str, Mapping[int, int]] = {
    "a": {1: 3, 2: 2, 10: 1},
    "b": {1: 3, 2: 2, 11: 1},
    "c": {1: 3, 2: 2, 12: 2},
    "d": {3: 4, 13: 1},
    "e": {3: 4, 14: 3},
    "f": {20: 9},
    "g": {21: 2},
    "h": {22: 13},
}
KEEP_ALIVES = {"b": 0, "g": -1}


class FakeSeatedLoader(FakeSharingLoader):
    """One arena of units."""

    def __init__(self) -> None:
        super().__init__(ARENA * UNIT)
        self.addresses: dict[str, tuple[int, int]] = {}

    @property
    def arena_bytes(self) -> int:
        return ARENA * UNIT

    def load_at(
        self,
        path: Path,
        index: WeightsIndex,
        is_verified: bool,
        lent: Mapping[int, Tensor],
        address: int,
    ) -> FakeParts:
        parts = self.load_rest(path, index, is_verified, lent)
        self.addresses[path.name] = (address, address + parts.bytes)
        return parts

    def layout(self, index: WeightsIndex) -> Layout:
        return super().layout(index)


def request(key: str) -> SlotRequest:
    sizes = {content: units * UNIT for content, units in FUNCTIONS[key].items()}
    return made_of(key, sizes, KEEP_ALIVES.get(key))


class SeatedHistories(RuleBasedStateMachine):
    """What is held stays and is right; what fits an empty arena comes in once nobody holds any."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.loader = FakeSeatedLoader()
        self.table = SlotTable(self.loader, (ARENA + BESIDE) * UNIT, self.clock)
        self.held: list[tuple[Lease, list[str]]] = []
        self.charged = 0

    @rule(
        group=st.lists(st.sampled_from(sorted(FUNCTIONS)), unique=True, min_size=1, max_size=3),
        scratch=st.integers(0, 3),
        broken=st.sampled_from([*FUNCTIONS, *"xxxxxxxx"]),
    )
    def acquire(self, group: list[str], scratch: int, broken: str) -> None:
        self.loader.broken = {broken}
        self.clock.now_s += 1
        try:
            lease = self.table.acquire([request(key) for key in group], scratch * UNIT, timeout_s=0)
        except WeightsError:
            assert broken in FUNCTIONS
        except TimeoutError:
            assert self.held
        except BudgetExceeded:
            contents = {c: n for key in {*group, "g"} for c, n in FUNCTIONS[key].items()}
            is_possible = sum(contents.values()) <= ARENA and scratch + self.charged <= BESIDE
            # what stays for ever ("g") lies at one end or the other, or cuts the arena
            assert not is_possible or "g" in self.table.stats().resident or self.held
        else:
            self.held.append((lease, group))

    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        if self.held:
            self.held.pop(which % len(self.held))[0].release()

    @rule(key=st.sampled_from(sorted(FUNCTIONS)))
    def evict(self, key: str) -> None:
        self.table.evict(key)

    @rule(units=st.integers(0, 3))
    def charge(self, units: int) -> None:
        resident = self.table.stats().resident
        try:
            self.table.charge(units * UNIT)
        except BudgetExceeded:
            scratch = self.table.stats().scratch_bytes // UNIT
            assert units + self.charged + scratch > BESIDE
        else:
            self.charged += units
        assert self.table.stats().resident == resident  # their going would be of no use

    @rule()
    def refund(self) -> None:
        self.table.refund(self.charged * UNIT)
        self.charged = 0

    @invariant()
    def the_books_agree(self) -> None:
        self.table.check_integrity()
        assert self.table.stats().resident_bytes == self.loader.held_bytes

    @invariant()
    def what_is_held_is_right(self) -> None:
        for lease, group in self.held:
            for key in group:
                found = [int(tensor) for tensor in lease.tensors(key)]
                assert found == list(FUNCTIONS[key])

    @invariant()
    def nobody_lies_where_another_does(self) -> None:
        """Of those that share nothing, as of the others the contents tell."""
        alone = [key for key in self.table.stats().resident if key in "fgh"]
        places = sorted(self.loader.addresses[key] for key in alone)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(places))
        assert all(end <= ARENA * UNIT for _, end in places)

    def teardown(self) -> None:
        for lease, _ in self.held:
            lease.release()
        self.refund()
        for key in FUNCTIONS:
            self.table.evict(key)
        self.table.check_integrity()
        assert self.table.stats().used_bytes == 0
        self.loader.broken = set()
        # the whole arena is one piece again
        big = made_of("big", {99: ARENA * UNIT})
        self.table.acquire([big], timeout_s=0).release()
        assert self.loader.addresses["big"] == (0, ARENA * UNIT)


TestSeatedHistories = SeatedHistories.TestCase
TestSeatedHistories.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
