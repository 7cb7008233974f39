"""Files in and out of the page cache, and how fast their bytes could move at best."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

PAGE_BYTES = mmap.PAGESIZE
BLOCK_BYTES = 4 * 2**20  # as of `dd iflag=direct bs=4M`
# a page or two may be read again by whoever watches the folder
LEFT = 0.02

_libc = ctypes.CDLL(None, use_errno=True)


def drop(path: Path) -> None:
    """Take a file out of the page cache; RuntimeError where it stays, as it does while mapped."""
    with path.open("rb") as file:
        # only clean pages go
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    share = cached_share(path)
    if share > LEFT:
        raise RuntimeError(f"{path}: {share:.0%} of it stayed in the page cache")


def warm(path: Path) -> None:
    """Bring a file into the page cache, whole."""
    with path.open("rb") as file:
        while file.read(BLOCK_BYTES):
            pass


def cached_share(path: Path) -> float:
    """How much of a file is in the page cache."""
    bytes_ = path.stat().st_size
    pages = ctypes.create_string_buffer(-(-bytes_ // PAGE_BYTES))
    with path.open("rb") as file, mmap.mmap(file.fileno(), bytes_, prot=mmap.PROT_READ) as mapped:
        found = np.frombuffer(mapped, np.uint8)
        address = ctypes.c_void_p(found.ctypes.data)
        if _libc.mincore(address, ctypes.c_size_t(bytes_), pages):
            raise OSError(ctypes.get_errno(), "mincore")
        del found
    return float(np.mean(np.frombuffer(pages, np.uint8) & 1))


class DirectReads:
    """Reads a file past the page cache, block by block, as `dd` does."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self._bytes = os.fstat(self._file).st_size
        self._block = mmap.mmap(-1, BLOCK_BYTES)  # direct reads want whole pages
        self._block.write(bytes(BLOCK_BYTES))

    def read(self) -> None:
        """All of it, once."""
        at = 0
        while at < self._bytes:
            at += os.preadv(self._file, [self._block], at)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Copy:
    """A plain copy in memory, of as many bytes; both sides are present."""

    def __init__(self, bytes_: int) -> None:
        self._from = np.ones(bytes_, np.uint8)
        self._to = np.ones(bytes_, np.uint8)

    def run(self) -> None:
        """Once."""
        np.copyto(self._to, self._from)
