"""Records of a function in blocks: what the file has, what a run reads of it, where that lies."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

PAGE_BYTES = 4096
# pieces that are no further apart are read at once
GAP_BYTES = 64 * 1024


class Extent(NamedTuple):
    """Bytes of a weights file."""

    begin: int
    end: int


class Piece(NamedTuple):
    """Bytes of the file that a weight of the cut graph is; counted from the file's start."""

    begin: int
    end: int
    # its rows are gathered from the file, never loaded
    is_gathered: bool = False


class Load(NamedTuple):
    """A step of the computation: the extents it reads, and what it takes."""

    extents: tuple[int, ...]
    compute_s: float


class Block(NamedTuple):
    """Steps that are computed together, and what is read for them."""

    begin: int
    end: int
    # extents that do not stay
    extents: tuple[int, ...]
    # whole pages of the file; what lies between two extents included
    spans: tuple[Extent, ...]
    # in the ring
    offset: int
    # it may be read once the block so many before it, counted through runs, was computed
    after: int

    @property
    def bytes(self) -> int:
        """Of the spans."""
        return bytes_of(self.spans)


class BlockPlan(NamedTuple):
    """How a function runs within so many bytes."""

    blocks: tuple[Block, ...]
    ring_bytes: int
    # extents that stay, and their pages
    resident: tuple[int, ...]
    resident_spans: tuple[Extent, ...]
    # a run that follows another at once, as it was played through
    run_s: float
    # what no plan in as many bytes can go below, by the same times
    least_s: float = 0.0

    @property
    def resident_bytes(self) -> int:
        """What stays."""
        return bytes_of(self.resident_spans)

    @property
    def peak_bytes(self) -> int:
        """Most bytes of weights that are in memory at any moment."""
        return self.ring_bytes + self.resident_bytes

    @property
    def read_bytes(self) -> int:
        """What each run reads."""
        return sum(block.bytes for block in self.blocks)


def bytes_of(spans: Iterable[Extent]) -> int:
    """All of them."""
    return sum(span.end - span.begin for span in spans)


def spans_of(extents: Iterable[Extent]) -> tuple[Extent, ...]:
    """Whole pages that hold the extents, near ones joined."""
    spans: list[Extent] = []
    for extent in sorted(extents):
        if extent.begin != extent.end:
            join(spans, whole_pages(extent))
    return tuple(spans)


def whole_pages(extent: Extent) -> Extent:
    """Those it touches."""
    begin = extent.begin // PAGE_BYTES * PAGE_BYTES
    return Extent(begin, -(-extent.end // PAGE_BYTES) * PAGE_BYTES)


def join(spans: list[Extent], pages: Extent) -> None:
    """Add pages to spans in order, one with those that are near."""
    first = bisect_left(spans, pages)
    if first and pages.begin <= spans[first - 1].end + GAP_BYTES:
        first -= 1
    last, (begin, end) = first, pages
    while last < len(spans) and spans[last].begin <= end + GAP_BYTES:
        begin, end = min(begin, spans[last].begin), max(end, spans[last].end)
        last += 1
    spans[first:last] = [Extent(begin, end)]
