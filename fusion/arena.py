"""Places in one allocation that is made once: which part is taken, which is free. Pure.

Slots come in size classes, 16 to each doubling, so that what one function leaves fits others of
about its size. Bytes are multiples of a granule. Free neighbours are one hole.

What is lost: less than a sixteenth of a slot, or a granule, inside of it. Outside: where n pieces
of p bytes together cannot leave, the largest hole that evictions can make has at least
(bytes - p) / (n + 1) bytes; where nothing is held, everything is one hole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

GRANULE_BYTES = 4096
CLASSES_PER_DOUBLING = 16
# Slots below this part of the arena lie at its upper end, where they do not cut up the rest.
SMALL_PARTS = 64


class Hole(NamedTuple):
    """Free bytes, or bytes of one slot, from `begin` to `end`."""

    begin: int
    end: int

    @property
    def bytes(self) -> int:
        """How many."""
        return self.end - self.begin


class Held(NamedTuple):
    """Bytes that are free once all who hold them have left."""

    begin: int
    end: int
    holders: frozenset[str]


class Seats(NamedTuple):
    """Where slots will lie, in the order asked for, and who leaves for them."""

    begins: list[int]
    victims: list[str]


def class_bytes(bytes_: int) -> int:
    """The size of a slot for so many bytes: the next of 16 sizes between powers of two."""
    step = max(GRANULE_BYTES, (1 << max(bytes_ - 1, 0).bit_length()) // 2 // CLASSES_PER_DOUBLING)
    return -(-bytes_ // step) * step


class Arena:
    """What is free of `bytes_` bytes."""

    def __init__(self, bytes_: int) -> None:
        assert bytes_ % GRANULE_BYTES == 0, f"{bytes_} bytes are not whole granules"
        self.bytes = bytes_
        self.free_bytes = bytes_
        # ascending, and no two of them touch
        self._holes = [Hole(0, bytes_)] if bytes_ else []

    @property
    def used_bytes(self) -> int:
        """What is taken."""
        return self.bytes - self.free_bytes

    @property
    def holes(self) -> Sequence[Hole]:
        """What is free, ascending."""
        return tuple(self._holes)

    def find(self, bytes_: int) -> int | None:
        """Where a slot of this size would lie; None where no hole is large enough."""
        return _best(self._holes, bytes_, self._is_small(bytes_))

    def take(self, begin: int, bytes_: int) -> None:
        """Take bytes that are free."""
        _check(begin, bytes_)
        place = bisect_left(self._holes, (begin + 1, 0)) - 1
        assert place >= 0, f"{bytes_} bytes at {begin} are not free"
        hole = self._holes[place]
        assert begin + bytes_ <= hole.end, f"{bytes_} bytes at {begin} are not free"
        self._holes[place : place + 1] = _without(hole, begin, begin + bytes_)
        self.free_bytes -= bytes_

    def give_back(self, begin: int, bytes_: int) -> None:
        """Free bytes that are taken: a slot or any part of one."""
        _check(begin, bytes_)
        end = begin + bytes_
        assert 0 <= begin < end <= self.bytes, f"{bytes_} bytes at {begin} lie outside"
        place = bisect_left(self._holes, (begin, 0))
        before = self._holes[place - 1] if place else Hole(0, 0)
        after = self._holes[place] if place < len(self._holes) else Hole(self.bytes, self.bytes)
        assert before.end <= begin < end <= after.begin, f"{bytes_} bytes at {begin} are free"
        first, last = place, place
        if before.bytes and before.end == begin:
            begin, first = before.begin, place - 1
        if after.bytes and after.begin == end:
            end, last = after.end, place + 1
        self._holes[first:last] = [Hole(begin, end)]
        self.free_bytes += bytes_

    def seats(
        self, sizes: Sequence[int], held: Iterable[Held], order: Sequence[str]
    ) -> Seats | None:
        """Where slots of these sizes lie once the first few of `order` have left.

        As few of them are looked at as suffice, and of those only who is in the way leaves. None
        where not even all of them make room.
        """
        taken = list(held)
        least, most = 0, len(order)
        found = self._tried(sizes, taken, order, most)
        if found is None:
            return None
        while least < most:
            middle = (least + most) // 2
            fewer = self._tried(sizes, taken, order, middle)
            if fewer is None:
                least = middle + 1
            else:
                most, found = middle, fewer
        return found

    def check_integrity(self) -> None:
        """Recount from the holes; AssertionError says what differs."""
        counted, at = 0, -1
        for begin, end in self._holes:
            assert at < begin < end <= self.bytes, f"a hole from {begin} to {end} behind {at}"
            assert begin % GRANULE_BYTES == end % GRANULE_BYTES == 0, f"{begin} to {end}"
            counted, at = counted + end - begin, end
        assert counted == self.free_bytes, f"holes of {counted} bytes, counted {self.free_bytes}"

    def _tried(
        self, sizes: Sequence[int], held: Sequence[Held], order: Sequence[str], count: int
    ) -> Seats | None:
        gone = {*order[:count]}
        cleared = [each for each in held if each.holders <= gone]
        holes = _joined([*self._holes, *(Hole(each.begin, each.end) for each in cleared)])
        begins = dict.fromkeys(range(len(sizes)), 0)
        # the largest first, while there is most to choose from
        for k in sorted(begins, key=lambda k: -sizes[k]):
            begin = _best(holes, sizes[k], self._is_small(sizes[k]))
            if begin is None:
                return None
            begins[k] = begin
            place = next(p for p, hole in enumerate(holes) if hole.begin <= begin < hole.end)
            holes[place : place + 1] = _without(holes[place], begin, begin + sizes[k])
        in_the_way: set[str] = set()
        for each in cleared:
            if any(each.begin < b + sizes[k] and b < each.end for k, b in begins.items()):
                in_the_way |= each.holders
        return Seats([*begins.values()], [key for key in order[:count] if key in in_the_way])

    def _is_small(self, bytes_: int) -> bool:
        return bytes_ * SMALL_PARTS < self.bytes


def _best(holes: Collection[Hole], bytes_: int, at_top: bool) -> int | None:
    """In the smallest hole that is large enough; of several the lowest, or at the top the last."""
    fitting = [hole for hole in holes if hole.bytes >= bytes_]
    if not fitting:
        return None
    if at_top:
        hole = min(fitting, key=lambda hole: (hole.bytes, -hole.begin))
        return hole.end - bytes_
    return min(fitting, key=lambda hole: (hole.bytes, hole.begin)).begin


def _joined(holes: list[Hole]) -> list[Hole]:
    joined: list[Hole] = []
    for hole in sorted(holes):
        if joined and joined[-1].end == hole.begin:
            joined[-1] = Hole(joined[-1].begin, hole.end)
        else:
            joined.append(hole)
    return joined


def _without(hole: Hole, begin: int, end: int) -> list[Hole]:
    """What is left of a hole."""
    return [rest for rest in (Hole(hole.begin, begin), Hole(end, hole.end)) if rest.bytes]


def _check(begin: int, bytes_: int) -> None:
    assert bytes_ > 0, f"{bytes_} bytes"
    assert begin % GRANULE_BYTES == bytes_ % GRANULE_BYTES == 0, f"{bytes_} bytes at {begin}"
