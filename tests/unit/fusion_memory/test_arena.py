"""Places in one allocation, against a model that marks every granule."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fusion.arena import GRANULE_BYTES, Arena, Held, class_bytes

GRANULES = 48


@given(st.integers(0, 2**40))
def test_a_slot_is_less_than_a_sixteenth_larger_than_its_bytes(bytes_: int) -> None:
    """Or less than a granule; and in a class of its own size already."""
    found = class_bytes(bytes_)
    assert 0 <= found - bytes_ < max(GRANULE_BYTES, bytes_ / 16)
    assert found % GRANULE_BYTES == 0
    assert class_bytes(found) == found


def test_slots_of_one_size_lie_side_by_side() -> None:
    """At equal distances, in whichever order others left between them."""
    arena = Arena(64 * GRANULE_BYTES)
    begins = []
    for _ in range(4):
        begin = arena.find(8 * GRANULE_BYTES)
        assert begin is not None
        arena.take(begin, 8 * GRANULE_BYTES)
        begins.append(begin)
    assert {b - a for a, b in pairwise(begins)} == {8 * GRANULE_BYTES}
    arena.give_back(begins[1], 8 * GRANULE_BYTES)
    assert arena.find(8 * GRANULE_BYTES) == begins[1]


def test_small_slots_lie_at_the_upper_end() -> None:
    """Where they do not cut up the room of large ones."""
    arena = Arena(1024 * GRANULE_BYTES)
    small = arena.find(GRANULE_BYTES)
    assert small == 1023 * GRANULE_BYTES
    arena.take(small, GRANULE_BYTES)
    assert arena.find(512 * GRANULE_BYTES) == 0


def test_only_who_is_in_the_way_leaves() -> None:
    """The least recently used that suffice are looked at; one whose going helps nobody stays."""
    arena = Arena(10 * GRANULE_BYTES)
    arena.take(0, 10 * GRANULE_BYTES)
    sizes = {"a": 2, "b": 3, "c": 1, "d": 2, "e": 2}  # in this order in memory
    held, at = [], 0
    for key, size in sizes.items():
        held.append(Held(at, at + size * GRANULE_BYTES, frozenset(key)))
        at += size * GRANULE_BYTES
    # e alone is too small; with d it fits; a, looked at before, is not in the way
    found = arena.seats([4 * GRANULE_BYTES], held, ["e", "a", "d", "b", "c"])
    assert found is not None
    assert found.victims == ["e", "d"]
    assert found.begins == [6 * GRANULE_BYTES]
    assert arena.seats([4 * GRANULE_BYTES], held, ["e", "a", "c"]) is None


def test_what_is_taken_cannot_be_taken_nor_what_is_free_given_back() -> None:
    """Books that are wrong say so at once."""
    arena = Arena(4 * GRANULE_BYTES)
    arena.take(GRANULE_BYTES, 2 * GRANULE_BYTES)
    with pytest.raises(AssertionError, match="not free"):
        arena.take(2 * GRANULE_BYTES, GRANULE_BYTES)
    with pytest.raises(AssertionError, match="are free"):
        arena.give_back(2 * GRANULE_BYTES, 2 * GRANULE_BYTES)
    with pytest.raises(AssertionError):
        arena.take(100, GRANULE_BYTES)


class ArenaHistories(RuleBasedStateMachine):
    """The model: per granule who holds it, least recently used first."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena(GRANULES * GRANULE_BYTES)
        self.granules: list[frozenset[str]] = [frozenset()] * GRANULES
        self.order: list[str] = []
        self.count = 0

    def held(self) -> list[Held]:
        return [
            Held(k * GRANULE_BYTES, (k + 1) * GRANULE_BYTES, holders)
            for k, holders in enumerate(self.granules)
            if holders
        ]

    def leave(self, key: str) -> None:
        self.order.remove(key)
        for k, holders in enumerate(self.granules):
            if key in holders:
                self.granules[k] = holders - {key}
                if not self.granules[k]:
                    self.arena.give_back(k * GRANULE_BYTES, GRANULE_BYTES)

    @rule(
        sizes=st.lists(st.integers(1, 24), min_size=1, max_size=3),
        pinned=st.sets(st.integers(0, 60), max_size=4),
    )
    def come(self, sizes: list[int], pinned: set[int]) -> None:
        order = [key for key in self.order if int(key) % 60 not in pinned]
        wanted = [size * GRANULE_BYTES for size in sizes]
        found = self.arena.seats(wanted, self.held(), order)
        fixed = [k for k, holders in enumerate(self.granules) if holders - {*order}]
        if found is None:
            # the bound: what cannot leave has cut the rest into few parts
            if len(sizes) == 1:
                assert GRANULES - len(fixed) < (len(fixed) + 1) * sizes[0]
            return
        assert found.victims == [key for key in order if key in {*found.victims}]
        for key in found.victims:
            self.leave(key)
        for size, begin in zip(sizes, found.begins, strict=True):
            self.arena.take(begin, size * GRANULE_BYTES)
            key = str(self.count)
            self.count += 1
            self.order.append(key)
            first = begin // GRANULE_BYTES
            assert not any(self.granules[first : first + size])
            self.granules[first : first + size] = [frozenset({key})] * size

    @rule(which=st.integers(0, 99))
    def go(self, which: int) -> None:
        if self.order:
            self.leave(self.order[which % len(self.order)])

    @rule(which=st.integers(0, 99), part=st.integers(0, 99))
    def share(self, which: int, part: int) -> None:
        """The newest takes a granule of another along."""
        taken = [k for k, holders in enumerate(self.granules) if holders]
        if taken:
            place = taken[part % len(taken)]
            self.granules[place] |= {self.order[which % len(self.order)]}

    @invariant()
    def the_books_agree(self) -> None:
        self.arena.check_integrity()
        free = [k for k, holders in enumerate(self.granules) if not holders]
        assert self.arena.free_bytes == len(free) * GRANULE_BYTES
        covered = {
            k
            for hole in self.arena.holes
            for k in range(hole.begin // GRANULE_BYTES, hole.end // GRANULE_BYTES)
        }
        assert covered == {*free}


TestArenaHistories = ArenaHistories.TestCase
TestArenaHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
