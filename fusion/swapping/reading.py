"""Reading a weights file in chunks, by several threads, into memory that the device copies from."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from fusion.blocks.reader import CHUNK_BYTES, THREADS, BlockFile, chunks_of
from fusion.blocks.records import Extent
from fusion.page_cache import HOST_SHARE, cached_share
from fusion.swapping.backend import Copies, Mark
from fusion.weights import WeightsIndex

# chunks that are read or copied at any moment where no pinned copy of a file is kept
STAGED = 2 * THREADS


class Piece(NamedTuple):
    """A range of a file's data that is on the host; offsets count from the start of the data."""

    begin: int
    end: int
    bytes: Tensor  # [end - begin] uint8, host


class Target(NamedTuple):
    """A range of the data, and where it is to be read to: [end - begin] uint8, host."""

    begin: int
    end: int
    bytes: Tensor


class Reading:
    """Reader threads of one device's loads, and the chunks for what is not kept on the host.

    Nothing is taken before the first load.
    """

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._pool = ThreadPoolExecutor(THREADS, "reading")
        # one load at a time has the chunks
        self._turn = threading.Lock()
        self._staged: Tensor | None = None
        # per chunk: after the copies from it
        self._copied: list[Mark | None] = [None] * STAGED

    def read(
        self, path: Path, index: WeightsIndex, targets: Sequence[Target]
    ) -> Generator[Piece, None, None]:
        """Fill all targets, in order; each piece as soon as it is there. Raises WeightsError."""
        with _opened(path, index) as file:
            begun: deque[tuple[Target, Future[None]]] = deque()
            try:
                for target in _chunks(targets):
                    read = self._pool.submit(_fill, file, index, target)
                    begun.append((target, read))
                while begun:
                    target, read = begun[0]
                    read.result()
                    begun.popleft()
                    yield Piece(*target)
            finally:
                _end([read for _, read in begun])

    def stage(
        self, path: Path, index: WeightsIndex, runs: Iterable[tuple[int, int]]
    ) -> Generator[Piece, None, None]:
        """Runs of the data through chunks that are used again; the caller copies before it asks on.

        A chunk is read into again once its copy is done: a reader waits for that, and where
        reading is slower than copying it never has to.
        """
        with self._turn, _opened(path, index) as file:
            chunks = [part for run in runs for part in chunks_of(Extent(*run))]
            begun: deque[tuple[Target, Future[None]]] = deque()
            try:
                for number in range(min(STAGED, len(chunks))):
                    begun.append(self._begin(file, index, number, chunks[number]))
                for number in range(len(chunks)):
                    target, read = begun[0]
                    read.result()
                    begun.popleft()
                    try:
                        yield Piece(*target)
                    finally:
                        self._copied[number % STAGED] = self._copies.mark()
                    if number + STAGED < len(chunks):
                        after = number + STAGED
                        begun.append(self._begin(file, index, after, chunks[after]))
            finally:
                _end([read for _, read in begun])

    def _begin(
        self, file: BlockFile, index: WeightsIndex, number: int, span: Extent
    ) -> tuple[Target, Future[None]]:
        place = number % STAGED
        if self._staged is None:
            self._staged = self._copies.host_memory(STAGED * CHUNK_BYTES)
        begin = place * CHUNK_BYTES
        target = Target(*span, self._staged[begin : begin + span.end - span.begin])
        return target, self._pool.submit(_fill, file, index, target, self._copied[place])


@contextmanager
def _opened(path: Path, index: WeightsIndex) -> Iterator[BlockFile]:
    file = BlockFile(path, index.file_bytes)
    try:
        if cached_share(path) >= HOST_SHARE:
            file.is_direct = False  # a copy from the page cache is faster than the disk
        yield file
    finally:
        file.close()


def _chunks(targets: Iterable[Target]) -> Iterator[Target]:
    for begin, end, memory in targets:
        for part in chunks_of(Extent(begin, end)):
            yield Target(*part, memory[part.begin - begin : part.end - begin])


def _fill(file: BlockFile, index: WeightsIndex, target: Target, free: Mark | None = None) -> None:
    """Read a range of the data; its memory is free after the mark."""
    if free is not None:
        free.synchronize()
    at = index.data_offset
    file.read(Extent(at + target.begin, at + target.end), target.bytes.numpy().data)


def _end(reads: Iterable[Future[None]]) -> None:
    """None of them writes any more: those that have begun are waited for."""
    for read in reads:
        if not read.cancel():
            read.exception()
