"""Runs of steps, and their places in the ring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from fusion.blocks.records import Extent, bytes_of, join, whole_pages


class Range(NamedTuple):
    """Steps of a block without its place."""

    begin: int
    end: int
    extents: tuple[int, ...]
    spans: tuple[Extent, ...]
    bytes: int
    compute_s: float


class Held:
    """What a block reads, as it grows."""

    def __init__(self, extents: Sequence[Extent]) -> None:
        self._extents = extents
        self.chosen: set[int] = set()
        self._spans: list[Extent] = []

    def copy(self) -> Held:
        other = Held(self._extents)
        other.chosen, other._spans = set(self.chosen), list(self._spans)
        return other

    def add(self, indices: Iterable[int]) -> None:
        for k in indices:
            extent = self._extents[k]
            if k not in self.chosen and extent.begin != extent.end:
                self.chosen.add(k)
                join(self._spans, whole_pages(extent))

    @property
    def bytes(self) -> int:
        return bytes_of(self._spans)

    def as_range(self, begin: int, end: int, compute_s: float) -> Range:
        spans = tuple(self._spans)
        return Range(begin, end, tuple(sorted(self.chosen)), spans, bytes_of(spans), compute_s)


def two_of(sizes: Sequence[int]) -> int:
    """Bytes in which every block fits beside the next."""
    return max([*map(sum, pairwise(sizes)), *sizes], default=0)


def in_turn(ranges: Sequence[Range], ring_bytes: int) -> list[int]:
    """Each behind the one before, from the start again where the ring ends."""
    offsets, at = [], 0
    for r in ranges:
        if at + r.bytes > ring_bytes:
            at = 0
        offsets.append(at)
        at += r.bytes
    return offsets


def from_both_ends(ranges: Sequence[Range], ring_bytes: int) -> list[int]:
    """In turn at the start and at the end: two that follow each other never overlap."""
    offsets, is_at_end = [], False
    for r in ranges:
        offsets.append(ring_bytes - r.bytes if is_at_end else 0)
        is_at_end ^= bool(r.bytes)
    return offsets


def afters_of(ranges: Sequence[Range], offsets: Sequence[int]) -> list[int]:
    """How many blocks before each one the last one lies that is in its way."""
    count = len(ranges)

    def overlap(a: int, b: int) -> bool:
        return (
            offsets[a] < offsets[b] + ranges[b].bytes and offsets[b] < offsets[a] + ranges[a].bytes
        )

    return [
        next((back for back in range(1, count) if overlap(k, (k - back) % count)), count)
        for k in range(count)
    ]
