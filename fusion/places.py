"""Places for files of equal size at equal distances in memory, so that weights can be stacked.

A range of addresses is reserved, which takes no memory; a file is mapped into the lowest place that
is free. Pages are the page cache's: shared between processes, never copied.
"""

import mmap
import threading
from collections import defaultdict
from collections.abc import Iterable
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from fusion.huge_pages import HUGE_BYTES, has_huge_pages
from fusion.mapping import Reserved, map_file, unmap
from fusion.readahead import bring_in

PAGE_BYTES = mmap.PAGESIZE
# of one range: more files of a size begin another
RANGE_BYTES = 4 * 2**30
MOST_PLACES = 64


class _Range:
    """Reserved addresses for places of one size; unmapped when the last view of them is gone."""

    def __init__(self, place_bytes: int) -> None:
        self.place_bytes = place_bytes
        count = max(1, min(MOST_PLACES, RANGE_BYTES // place_bytes))
        self._reserved = Reserved(count * place_bytes, _align(place_bytes))
        self._begin = self._reserved.address
        self.free = list(range(count))

    def address(self, number: int) -> int:
        """Where a place begins."""
        return self._begin + number * self.place_bytes


class _Pages:
    """A mapped file as numpy's array interface; what is made of it keeps it alive.

    Flagged writable, since torch warns of buffers that are not: the kernel still refuses writes.
    """

    def __init__(self, range_: _Range, address: int, bytes_: int) -> None:
        self._range = range_
        self.__array_interface__ = {
            "version": 3,
            "shape": (bytes_,),
            "typestr": "|u1",
            "data": (address, False),
        }


class Mapped:
    """One file in its place."""

    def __init__(self, places: "Places", range_: _Range, number: int, bytes_: int) -> None:
        self._places = places
        self._range = range_
        self._number = number
        self._bytes = bytes_
        # (begin, end, what keeps a view of them)
        self._views: list[tuple[int, int, ref[_Pages]]] = []

    @property
    def data(self) -> Tensor:
        """The file, [bytes] uint8; a write, or a look at what is not mapped, ends the process."""
        return self.view(0, self._bytes)

    def view(self, begin: int, end: int) -> Tensor:
        """Some bytes of it, [end - begin] uint8, held apart from all others."""
        pages = _Pages(self._range, self._range.address(self._number) + begin, end - begin)
        self._views.append((begin, end, ref(pages)))
        return torch.from_numpy(np.asarray(pages))

    def is_viewed(self, begin: int, end: int) -> bool:
        """Whether something made of a view that overlaps these bytes is held."""
        self._views = [view for view in self._views if view[2]() is not None]
        return any(first < end and begin < last for first, last, _ in self._views)

    def unmap(self, begin: int, end: int) -> bool:
        """Give up whole pages of it; False while a view of them is held."""
        if self.is_viewed(begin, end):
            return False
        unmap(self._range.address(self._number) + begin, end - begin)
        return True

    def close(self) -> bool:
        """Unmap and give the place back; False while something made of a view is held."""
        if self.is_viewed(0, self._bytes):
            return False
        self._places.give_back(self._range, self._number)
        return True


class Places:
    """All places of one device's files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ranges: dict[int, list[_Range]] = defaultdict(list)

    def map(self, file: int, bytes_: int, runs: Iterable[tuple[int, int]] | None = None) -> Mapped:
        """Map a file read-only and shared, every page present; raises OSError.

        `runs` are the parts that are needed, (begin, end) in whole pages, instead of all of it.
        """
        align = _align(bytes_)
        place_bytes = -(-bytes_ // align) * align
        is_huge = align == HUGE_BYTES and has_huge_pages(file)
        range_, number = self._take(place_bytes)
        try:
            for begin, end in [(0, bytes_)] if runs is None else runs:
                address = range_.address(number) + begin
                length = min(end, bytes_) - begin
                # maps of their own: faults bring in what is around them, and nothing beyond
                map_file(address, length, file, begin)
                bring_in(address, length, is_huge)
        except BaseException:
            self.give_back(range_, number)
            raise
        return Mapped(self, range_, number, bytes_)

    def give_back(self, range_: _Range, number: int) -> None:
        """Reserve the place again; nothing may read it any more."""
        unmap(range_.address(number), range_.place_bytes)
        with self._lock:
            range_.free.append(number)

    def _take(self, place_bytes: int) -> tuple[_Range, int]:
        with self._lock:
            ranges = self._ranges[place_bytes]
            range_ = next((each for each in ranges if each.free), None)
            if range_ is None:
                range_ = _Range(place_bytes)
                ranges.append(range_)
            number = min(range_.free)
            range_.free.remove(number)
            return range_, number


def _align(bytes_: int) -> int:
    """Of places: where huge pages can begin, for files that have room for one."""
    return HUGE_BYTES if bytes_ >= HUGE_BYTES else PAGE_BYTES
