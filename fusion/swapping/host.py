"""Pinned copies of weights files under a budget of host bytes, least recently used first to go.

A copy is pages of 1 MiB, each of them anywhere: nothing is cut up, whatever comes and goes. Tensors
that several files have are there once (`fusion.sharing`, with these pages in the place of a CPU's).
Memory is pinned in slabs as it is first needed, and stays pinned: pinning takes long.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from fusion.errors import WeightsError
from fusion.lru import ByteLru
from fusion.sharing import Backing, Placement, Shares
from fusion.spans import Layout, page_layout
from fusion.swapping.backend import Copies, Mark
from fusion.swapping.reading import Piece, Reading, Target
from fusion.weights import WeightsIndex

HOST_PAGE_BYTES = 2**20
# torch takes the next power of two
SLAB_PAGES = 64


def data_layout(index: WeightsIndex, page_bytes: int) -> Layout:
    """The spans of a file's data alone; offsets count from the start of the data."""
    return page_layout(replace(index, data_offset=0, file_bytes=index.data_bytes), page_bytes)


@dataclass(eq=False, slots=True)
class _Copy:
    """A file that is on the host, or is being read."""

    placement: Placement
    is_whole: bool = False
    copied: Mark | None = None
    # (begin, end, offset in the slabs) of a whole one: it stays where it is
    parts: list[tuple[int, int, int]] | None = None


class HostTier:
    """Copies of files by path. Any thread may load from it."""

    def __init__(self, copies: Copies, reading: Reading, budget_bytes: int) -> None:
        self._copies = copies
        self._reading = reading
        self._changed = threading.Condition()  # guards all below; files are read outside it
        self._files: ByteLru[Path, _Copy] = ByteLru()
        self._shares = Shares()
        # per span its first page and those behind it
        self._pages: dict[Backing, dict[int, int]] = {}
        self._slabs: list[Tensor] = []
        # in this order, so that copies lie in one piece where they can
        self._free = list(range(_whole_slabs(budget_bytes // HOST_PAGE_BYTES)))
        self._slab_bytes = min(SLAB_PAGES, len(self._free)) * HOST_PAGE_BYTES

    @property
    def bytes(self) -> int:
        """What copies take; each tensor once."""
        return self._shares.bytes

    def __contains__(self, path: Path) -> bool:
        with self._changed:
            return path in self._files and self._files[path].is_whole

    @contextmanager
    def pieces(
        self, path: Path, index: WeightsIndex, is_verified: bool
    ) -> Iterator[Iterator[Piece] | None]:
        """The file's data in order, from memory or as it is read; None where it does not fit.

        The caller copies inside the context. Raises WeightsError; then nothing is kept.
        """
        copy = self._take(path, index)
        if copy is None:
            yield None
            return
        found = self._there(copy) if copy.is_whole else self._fill(path, index, copy, is_verified)
        try:
            with closing(found):
                yield found
        finally:
            copied = self._copies.mark()
            with self._changed:
                copy.copied = copied
                self._files.unpin(path)
                if not copy.is_whole and not self._files.pins(path):
                    copied.synchronize()  # a failure: its pages are read into again
                    self._drop(path, is_lost=True)
                self._changed.notify_all()

    @contextmanager
    def held(self, path: Path, begin: int, end: int) -> Iterator[list[Piece] | None]:
        """A range of a file, to be copied inside the context; None where there is no copy of it."""
        with self._changed:
            if path not in self._files or not self._files[path].is_whole:
                copy = None
            else:
                copy = self._files[path]
                self._files.pin(path)
                self._files.touch(path)
                parts = [
                    (max(a, begin), min(b, end), offset + max(a, begin) - a)
                    for a, b, offset in self._known_parts(copy)
                    if a < end and begin < b
                ]
        if copy is None:
            yield None
            return
        try:
            yield [Piece(*target) for part in parts for target in self._memory(*part)]
        finally:
            copied = self._copies.mark()
            with self._changed:
                copy.copied = copied
                self._files.unpin(path)

    def check_integrity(self) -> None:
        """Recount pages from the copies; AssertionError says what differs."""
        with self._changed:
            self._files.check_integrity()
            self._shares.check_integrity()
            taken = [page for pages in self._pages.values() for page in pages.values()]
            every = sorted([*taken, *self._free])
            assert every == [*range(len(every))], "a page is free and taken, or neither"
            counted = len(taken) * HOST_PAGE_BYTES
            assert counted == self._shares.bytes, f"{counted} bytes, counted {self._shares.bytes}"

    def _take(self, path: Path, index: WeightsIndex) -> _Copy | None:
        """The file's copy, pinned, or a place for one; None where neither is to be had."""
        layout = data_layout(index, HOST_PAGE_BYTES)
        with self._changed:
            while True:
                if path not in self._files and not self._place(path, index, layout):
                    return None
                copy = self._files[path]
                if _is_lost(copy):
                    if self._files.pins(path):
                        return None
                    self._drop(path, is_lost=True)
                    continue
                is_mine = not self._files.pins(path)
                if not copy.is_whole and not is_mine:
                    return None  # another thread reads it: this one reads by itself
                self._files.pin(path)
                self._files.touch(path)
                while copy.placement.is_waiting and not _is_lost(copy):
                    self._changed.wait()
                if not _is_lost(copy):
                    return copy
                self._files.unpin(path)

    def _place(self, path: Path, index: WeightsIndex, layout: Layout) -> bool:
        """Pages for what no other copy has; others leave for them."""
        placement = self._shares.place(str(path), index, layout)
        need = placement.load_bytes // HOST_PAGE_BYTES
        self._files.put(path, _Copy(placement), placement.bytes)
        self._files.pin(path)
        shortage = need - len(self._free)
        if shortage > 0:
            freed = self._shares.freed_in_turn()
            victims = self._files.victims(
                shortage * HOST_PAGE_BYTES, frees=lambda victim: freed(str(victim))
            )
            for victim in victims:
                self._drop(victim)
        self._files.unpin(path)
        if need > len(self._free):
            self._drop(path, is_lost=True)
            return False
        self._pages[placement.backing] = {
            page: heappop(self._free)
            for span in placement.held[placement.backing]
            for page in _pages_of(placement.backing, span)
        }
        return True

    def _drop(self, path: Path, is_lost: bool = False) -> None:
        copy = self._files.pop(path)
        if copy.copied is not None:
            copy.copied.synchronize()  # else its pages were read into while they are copied
        if is_lost:
            self._shares.lose(str(path))
        for backing, spans in self._shares.drop(str(path)):
            pages = self._pages.get(backing, {})
            for span in spans:
                for page in _pages_of(backing, span):
                    if page in pages:
                        heappush(self._free, pages.pop(page))
            if not pages:
                self._pages.pop(backing, None)

    def _there(self, copy: _Copy) -> Generator[Piece, None, None]:
        with self._changed:
            parts = self._known_parts(copy)
        for begin, end, offset in parts:
            yield from (Piece(*target) for target in self._memory(begin, end, offset))

    def _fill(
        self, path: Path, index: WeightsIndex, copy: _Copy, is_verified: bool
    ) -> Generator[Piece, None, None]:
        """Read what is the file's own; everything in order."""
        own = copy.placement.backing
        with self._changed:
            parts = [*self._parts(copy.placement)]
            runs = self._runs(own, own.layout.needed(own.lent))
        targets = [target for run in runs for target in self._memory(*run)]
        with closing(self._reading.read(path, index, targets)) as read:
            if not is_verified:
                deque(read, maxlen=0)
                self._check(path, copy.placement)
                self._whole(copy)
                yield from self._there(copy)
                return
            own_parts = {(begin, end) for begin, end, _ in runs}
            for begin, end, offset in parts:
                if (begin, end) not in own_parts:
                    yield from (Piece(*target) for target in self._memory(begin, end, offset))
                    continue
                at = begin
                while at < end:
                    piece = next(read)
                    yield piece
                    at = piece.end
        self._whole(copy)

    def _whole(self, copy: _Copy) -> None:
        """Everything is there; others may take tensors from it."""
        with self._changed:
            copy.is_whole = True
            copy.placement.backing.weights = _THERE
            self._changed.notify_all()

    def _known_parts(self, copy: _Copy) -> list[tuple[int, int, int]]:
        if copy.parts is None:
            copy.parts = [*self._parts(copy.placement)]
        return copy.parts

    def _parts(self, placement: Placement) -> Iterator[tuple[int, int, int]]:
        """The data in order: (begin, end, offset in the slabs), pieces that lie in one piece.

        What is lent is as it lies in others' pages; what lies on pages of the file's own is there.
        """
        own = placement.backing
        parts = self._runs(own, own.layout.needed(own.lent))
        covered = [(begin, end) for begin, end, _ in parts]
        for tensor, found in sorted(placement.lent.items()):
            entry, theirs = own.entries[tensor], found.backing.entries[found.tensor]
            for begin, end in _uncovered(entry.offset, entry.offset + entry.nbytes, covered):
                shift = theirs.offset - entry.offset
                parts += [
                    (a - shift, b - shift, offset)
                    for a, b, offset in self._located(found.backing, begin + shift, end + shift)
                ]
        yield from sorted(parts)

    def _runs(self, backing: Backing, spans: Sequence[int]) -> list[tuple[int, int, int]]:
        """Whole spans, as far as they lie in one piece."""
        found: list[tuple[int, int, int]] = []
        for begin, end in backing.layout.runs(spans):
            found += self._located(backing, begin, end)
        return found

    def _located(self, backing: Backing, begin: int, end: int) -> list[tuple[int, int, int]]:
        pages = self._pages[backing]
        found: list[tuple[int, int, int]] = []
        at = begin
        while at < end:
            page = at // HOST_PAGE_BYTES
            until = min(end, (page + 1) * HOST_PAGE_BYTES)
            offset = pages[page] * HOST_PAGE_BYTES + at % HOST_PAGE_BYTES
            if found and found[-1][2] + found[-1][1] - found[-1][0] == offset:
                found[-1] = (found[-1][0], until, found[-1][2])
            else:
                found.append((at, until, offset))
            at = until
        return found

    def _memory(self, begin: int, end: int, offset: int) -> Iterator[Target]:
        """Bytes of the slabs; pinned when they are first needed."""
        slab_bytes = self._slab_bytes
        while begin < end:
            number, at = divmod(offset, slab_bytes)
            length = min(end - begin, slab_bytes - at)
            with self._changed:
                while len(self._slabs) <= number:
                    self._slabs.append(self._copies.host_memory(slab_bytes))
                slab = self._slabs[number]
            yield Target(begin, begin + length, slab[at : at + length])
            begin, offset = begin + length, offset + length

    def _check(self, path: Path, placement: Placement) -> None:
        """Compare the digests of what was read."""
        own = placement.backing
        for tensor, entry in enumerate(own.entries):
            if tensor in own.lent:
                continue
            digest = hashlib.sha256()
            with self._changed:
                parts = self._located(own, entry.offset, entry.offset + entry.nbytes)
            for part in parts:
                for target in self._memory(*part):
                    digest.update(target.bytes.numpy().data)
            if digest.hexdigest() != entry.sha256:
                found = digest.hexdigest()
                raise WeightsError(
                    f"{path}: {entry.name!r}: sha256 is {found}, expected {entry.sha256}"
                )


class _There:
    """Stands for a copy that is whole: pages are not closed, but given back one by one."""

    tensors: list[Tensor] = []  # noqa: RUF012  # never asked

    def wait_ready(self) -> None: ...

    def mark_used(self) -> None: ...

    def close(self) -> bool:
        return True


_THERE = _There()


def _is_lost(copy: _Copy) -> bool:
    return copy.placement.is_lost


def _whole_slabs(pages: int) -> int:
    """At most so many pages: whole slabs, or one of a power of two."""
    if pages < SLAB_PAGES:
        return 1 << (pages.bit_length() - 1) if pages else 0
    return pages - pages % SLAB_PAGES


def _pages_of(backing: Backing, span: int) -> range:
    begin, end = backing.layout.cuts[span : span + 2]
    return range(begin // HOST_PAGE_BYTES, end // HOST_PAGE_BYTES)


def _uncovered(
    begin: int, end: int, covered: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """What of a range no other covers; they do not overlap."""
    cuts = sorted((max(a, begin), min(b, end)) for a, b in covered if max(a, begin) < min(b, end))
    for (_, left), (right, _) in pairwise([(begin, begin), *cuts, (end, end)]):
        if left < right:
            yield left, right
