"""Reads ranges of a weights file into memory: directly from the disk, or by mapping what is cached.

Cold bytes are read past the page cache (O_DIRECT) in chunks by several threads, straight to where
they are used: a copy through the page cache takes twice as long, and pushes out what others read.
Bytes that the page cache has are not copied at all: their pages are mapped for as long as the block
needs them. Where the file system knows no direct reads, plain ones fill the same memory.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from fusion.blocks.records import PAGE_BYTES, Extent
from fusion.errors import WeightsError
from fusion.huge_pages import has_huge_pages
from fusion.mapping import MADV_POPULATE_READ

THREADS = 4
CHUNK_BYTES = 4 * 2**20
# of less, more of a read is waiting for its first byte
LEAST_CHUNK_BYTES = 2**20
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


class Memory:
    """Pages of the process: its own, or those of a file."""

    def __init__(self, pages: mmap.mmap) -> None:
        self._pages = pages
        array = np.frombuffer(pages, np.uint8)
        self.address = int(array.__array_interface__["data"][0])
        # keeps the pages as long as anything made of it is held; torch warns of what is read-only
        self._bytes: _Bytes | None = _Bytes(pages, self.address, len(pages))
        self._held = ref(self._bytes)

    @classmethod
    def of(cls, bytes_: int) -> Memory:
        """Memory that takes none before it is written; in huge pages, where there are any."""
        pages = mmap.mmap(-1, max(bytes_, PAGE_BYTES), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if HUGE_PAGES.exists():
            pages.madvise(mmap.MADV_HUGEPAGE)
        return cls(pages)

    @classmethod
    def of_file(cls, file: int, bytes_: int) -> Memory:
        """A file, read-only and shared; none of its pages is present yet."""
        pages = mmap.mmap(file, bytes_, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        if HUGE_PAGES.exists():
            # a huge page is never mapped across what `part_at` parts
            pages.madvise(mmap.MADV_HUGEPAGE if has_huge_pages(file) else mmap.MADV_NOHUGEPAGE)
        return cls(pages)

    @property
    def bytes(self) -> int:
        """Present or not."""
        return len(self._pages)

    @property
    def data(self) -> Tensor:
        """All of it, [bytes] uint8."""
        return torch.from_numpy(np.asarray(self._bytes))

    def part(self, begin: int, end: int) -> memoryview:
        """To be read into."""
        return memoryview(self._pages)[begin:end]

    def drop(self, begin: int, end: int) -> None:
        """Give pages back; read again, they are the file's."""
        self._advise(begin, end, mmap.MADV_DONTNEED)

    def part_at(self, places: Iterable[int]) -> None:
        """Map no page across these places where one beside it is made present.

        The kernel maps what lies around a page that is touched, or all of a folio, but never beyond
        the mapping; parts that differ in a flag, here of core dumps, are mappings of their own.
        """
        edges = sorted({0, *places, self.bytes})
        for number, (begin, end) in enumerate(pairwise(edges)):
            if number % 2:
                self._advise(begin, end, mmap.MADV_DONTDUMP)

    def populate(self, begin: int, end: int) -> None:
        """Make pages of a file present; raises OSError."""
        self._advise(begin, end, MADV_POPULATE_READ)

    def is_cached(self, begin: int, end: int) -> bool:
        """Whether the page cache has all of these pages of a file."""
        count = -(-(end - begin) // PAGE_BYTES)
        found = np.empty(count, np.uint8)
        if _libc.mincore(self.address + begin, end - begin, found.ctypes.data):
            raise _last_error()
        return bool((found & 1).all())

    def close(self) -> bool:
        """Unmap; False while something made of `data` is held."""
        self._bytes = None
        if self._held() is not None:
            return False
        try:
            self._pages.close()
        except BufferError:  # a reader still has a part of it
            return False
        return True

    def _advise(self, begin: int, end: int, advice: int) -> None:
        if _libc.madvise(self.address + begin, end - begin, advice):
            raise _last_error()


class _Bytes:
    """Memory as numpy's array interface; what is made of it keeps it alive."""

    def __init__(self, pages: mmap.mmap, address: int, bytes_: int) -> None:
        self._pages = pages
        self.__array_interface__ = {
            "version": 3, "shape": (bytes_,), "typestr": "|u1", "data": (address, False),
        }  # fmt: skip


class BlockFile:
    """One weights file, open to be read in parts; raises WeightsError for one of another size."""

    def __init__(self, path: Path, file_bytes: int) -> None:
        self.path = path
        self.file_bytes = file_bytes
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read: {error}") from error
        self._direct = -1
        try:
            self._direct = _open_direct(path)
            # whether the file system takes direct reads
            self.is_direct = self._direct >= 0
            found_bytes = os.fstat(self._file).st_size
            if found_bytes != file_bytes:
                raise WeightsError(f"{path}: {found_bytes} bytes, expected {file_bytes}")
            self.mapped = Memory.of_file(self._file, file_bytes)
        except BaseException:
            self._close_files()
            raise

    def read(self, span: Extent, target: memoryview) -> None:
        """Fill `target` with whole pages; at the end of the file with what there is of the last.

        Raises WeightsError where the file ends before it should.
        """
        begin, end = span
        want = min(end, self.file_bytes) - begin
        got = 0
        while got < want:
            found = self._read_some(target[got:], begin + got)
            if not found:
                raise WeightsError(f"{self.path}: ends at {begin + got}")
            got += found
            # a direct read begins on a page: what a short one left of its page is read again
            got -= got % PAGE_BYTES if got < want else 0

    def gather(
        self, begin: int, row_bytes: int, runs: Sequence[tuple[int, int]], target: memoryview
    ) -> None:
        """Rows of a table at `begin`, (first, count) each run of them, one after another.

        All of them are asked for before the first is waited for.
        """
        extents = [Extent(begin + row * row_bytes, count * row_bytes) for row, count in runs]
        for offset, bytes_ in extents:
            os.posix_fadvise(self._file, offset, bytes_, os.POSIX_FADV_WILLNEED)
        at = 0
        for offset, bytes_ in extents:
            if os.preadv(self._file, [target[at : at + bytes_]], offset) != bytes_:
                raise WeightsError(f"{self.path}: ends within a table")
            at += bytes_

    def close(self) -> bool:
        """Close; False while a view of its pages is held."""
        self._close_files()
        return self.mapped.close()

    def _read_some(self, target: memoryview, begin: int) -> int:
        if self.is_direct:
            try:
                return os.preadv(self._direct, [target], begin)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise WeightsError(f"{self.path}: cannot be read: {error}") from error
                self.is_direct = False  # some file systems refuse only when they are to read
        try:
            return os.preadv(self._file, [target], begin)
        except OSError as error:
            raise WeightsError(f"{self.path}: cannot be read: {error}") from error

    def _close_files(self) -> None:
        for file in (self._file, self._direct):
            if file >= 0:
                os.close(file)
        self._file = self._direct = -1


def chunk_bytes(block_bytes: int) -> int:
    """So that the threads share even a small block, in whole pages."""
    each = -(-block_bytes // (THREADS * PAGE_BYTES)) * PAGE_BYTES
    return max(LEAST_CHUNK_BYTES, min(CHUNK_BYTES, each))


def chunks_of(span: Extent, chunk_bytes: int = CHUNK_BYTES) -> list[Extent]:
    """A span in parts that several threads read."""
    return [
        Extent(begin, min(begin + chunk_bytes, span.end))
        for begin in range(span.begin, span.end, chunk_bytes)
    ]


def _open_direct(path: Path) -> int:
    """-1 where the file system refuses direct reads."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTSUP):
            return -1
        raise WeightsError(f"{path}: cannot be read: {error}") from error


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
