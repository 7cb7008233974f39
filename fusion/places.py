"""Places for files of equal size at equal distances in memory, so that weights can be stacked.

A range of addresses is reserved, which takes no memory; a file is mapped into the lowest place that
is free. Pages are the page cache's: shared between processes, never copied.
"""

import ctypes
import mmap
import os
import threading
from collections import defaultdict
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from fusion.readahead import bring_in

PAGE_BYTES = mmap.PAGESIZE
# of one range: more files of a size begin another
RANGE_BYTES = 4 * 2**30
MOST_PLACES = 64
# Linux, uapi/asm-generic/mman-common.h; Python's mmap has no name for them
MAP_FIXED = 0x10
PROT_NONE = 0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip


class _Range:
    """Reserved addresses for places of one size; unmapped when the last view of them is gone."""

    def __init__(self, place_bytes: int) -> None:
        self.place_bytes = place_bytes
        count = max(1, min(MOST_PLACES, RANGE_BYTES // place_bytes))
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._reserved = mmap.mmap(-1, count * place_bytes, flags=flags, prot=PROT_NONE)
        self._begin = _address(self._reserved)
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
        self._pages: _Pages | None = _Pages(range_, range_.address(number), bytes_)
        self._held = ref(self._pages)

    @property
    def data(self) -> Tensor:
        """The file, [bytes] uint8; a write to it ends the process."""
        return torch.from_numpy(np.asarray(self._pages))

    def close(self) -> bool:
        """Unmap and give the place back; False while something made of `data` is held."""
        self._pages = None
        if self._held() is not None:
            return False
        self._places.give_back(self._range, self._number)
        return True


class Places:
    """All places of one device's files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ranges: dict[int, list[_Range]] = defaultdict(list)

    def map(self, file: int, bytes_: int) -> Mapped:
        """Map a file read-only and shared, every page present; raises OSError."""
        place_bytes = -(-bytes_ // PAGE_BYTES) * PAGE_BYTES
        range_, number = self._take(place_bytes)
        try:
            address = range_.address(number)
            _map_at(address, bytes_, mmap.PROT_READ, mmap.MAP_SHARED, file)
            bring_in(address, bytes_)
        except BaseException:
            self.give_back(range_, number)
            raise
        return Mapped(self, range_, number, bytes_)

    def give_back(self, range_: _Range, number: int) -> None:
        """Reserve the place again; nothing may read it any more."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        _map_at(range_.address(number), range_.place_bytes, PROT_NONE, flags, -1)
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


def _map_at(address: int, bytes_: int, protection: int, flags: int, file: int) -> None:
    if _libc.mmap(address, bytes_, protection, flags | MAP_FIXED, file, 0) != address:
        raise _last_error()


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _address(reserved: mmap.mmap) -> int:
    # the export keeps nothing: numpy lets go of it here
    return int(np.frombuffer(reserved, np.uint8).__array_interface__["data"][0])
