"""Runs a graph block by block: readers are ahead of the computation as far as the ring allows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusion.bindings import dtype
from fusion.blocks.body import BlockedGraph
from fusion.blocks.observed import Observed, ReadMeter
from fusion.blocks.reader import THREADS, BlockFile, Memory, chunk_bytes, chunks_of
from fusion.blocks.records import Block, Extent, bytes_of
from fusion.blocks.tables import FileTable
from fusion.ir import WeightSpec

# weights of a block by their index
Views = Sequence[tuple[int, Tensor]]


class _Arriving(NamedTuple):
    """A block whose reads have begun."""

    is_mapped: bool
    reads: list[Future[None]]


class BlockRunner:
    """One function's memory, file and readers. One thread runs it at a time."""

    def __init__(self, body: BlockedGraph, path: Path, file_bytes: int) -> None:
        self._body = body
        self._blocks = body.plan.blocks
        self._file = BlockFile(path, file_bytes)
        self._ring = Memory.of(body.plan.ring_bytes)
        self._kept = Memory.of(body.plan.resident_bytes)
        self._pool = ThreadPoolExecutor(THREADS, "blocks")
        self._weights: list[Any] = [None] * len(body.pieces)
        self._views = [self._block_views(block) for block in self._blocks]
        self._arriving: deque[Future[_Arriving]] = deque()
        # blocks asked for and computed, counted through runs
        self._asked = self._computed = 0
        self._drops: list[Extent] = []
        self._lock = threading.Lock()  # guards `_drops`, and holds reads back until they are done
        self._is_ring_written = False
        self._meter = ReadMeter()
        # of the last run that came to its end
        self.latest: Observed | None = None
        try:
            spans = [span for block in self._blocks for span in block.spans]
            edges = chain.from_iterable([*spans, *body.plan.resident_spans])
            self._file.mapped.part_at(at for at in edges if at <= file_bytes)
            self._read_tables()
            self._read_kept()
        except BaseException:
            self.close()
            raise
        self._read_ahead()

    @torch.inference_mode()
    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs; raises what an operator raises, and WeightsError or OSError of a reader."""
        steps = self._body.code(self._weights, inputs)
        outputs = None
        step_s: list[float] = []
        began_s = perf_counter()
        try:
            self._read_ahead()
            for place, block in enumerate(self._blocks):
                is_mapped = self._wait()
                self._bind(place, is_mapped)
                at_s = perf_counter()
                for _ in range(block.begin, block.end):
                    outputs = next(steps)
                    before_s, at_s = at_s, perf_counter()
                    step_s.append(at_s - before_s)
                self._leave(block, is_mapped)
        except BaseException:
            del steps
            self._start_anew()
            raise
        self.latest = Observed(perf_counter() - began_s, tuple(step_s), *self._meter.take())
        assert outputs is not None, "the last block ends with the outputs"
        return outputs

    @property
    def memories(self) -> tuple[Memory, ...]:
        """All memory that holds weights: the ring, what stays, and the file's own pages."""
        return self._ring, self._kept, self._file.mapped

    @property
    def is_direct(self) -> bool:
        """Whether what is not cached is read directly."""
        return self._file.is_direct

    def settle(self) -> None:
        """Wait for everything that was asked for; what a reader raised waits for the next run."""
        for begun in self._arriving:
            wait([begun])
            if begun.exception() is None:
                wait(begun.result().reads)
        self._drop()

    def close(self) -> bool:
        """End the readers and free the memory; False while a view is held elsewhere."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._weights, self._views = [], []
        self._arriving.clear()
        # each of them, whatever the others say
        return all([self._ring.close(), self._kept.close(), self._file.close()])

    def _wait(self) -> bool:
        """The next block has come; whether its pages are the file's own."""
        found = self._arriving.popleft().result()
        for read in found.reads:
            read.result()
        return found.is_mapped

    def _bind(self, place: int, is_mapped: bool) -> None:
        for index, view in self._views[place][is_mapped]:
            self._weights[index] = view

    def _leave(self, block: Block, is_mapped: bool) -> None:
        for index in block.extents:
            self._weights[index] = None
        self._computed += 1
        if is_mapped:
            with self._lock:
                self._drops += block.spans
            self._pool.submit(self._drop)
        self._read_ahead()

    def _read_ahead(self) -> None:
        """Ask for every block whose place in the ring is free, those of the next run too."""
        count = len(self._blocks)
        while self._asked - self._blocks[self._asked % count].after < self._computed:
            place = self._asked % count
            self._arriving.append(self._pool.submit(self._begin, self._blocks[place]))
            self._asked += 1

    def _begin(self, block: Block) -> _Arriving:
        """Map what the page cache has, read the rest directly."""
        self._drop()
        if block.spans and all(self._file.mapped.is_cached(*span) for span in block.spans):
            if self._is_ring_written:
                self._ring.drop(block.offset, block.offset + block.bytes)
            for span in block.spans:
                self._file.mapped.populate(*span)
            return _Arriving(True, [])
        self._is_ring_written = True
        return _Arriving(False, self._read(block.spans, self._ring, block.offset))

    def _read(self, spans: Sequence[Extent], memory: Memory, offset: int) -> list[Future[None]]:
        reads = []
        for span in spans:
            shift = offset - span.begin
            for part in chunks_of(span, chunk_bytes(bytes_of(spans))):
                target = memory.part(part.begin + shift, part.end + shift)
                reads.append(self._pool.submit(self._read_part, part, target))
            offset += span.end - span.begin
        return reads

    def _read_part(self, part: Extent, target: memoryview) -> None:
        with self._meter.reading(part.end - part.begin):
            self._file.read(part, target)

    def _drop(self) -> None:
        """Give back pages of the file that a block no longer needs."""
        with self._lock:
            for span in self._drops:
                self._file.mapped.drop(*span)
            self._drops.clear()

    def _start_anew(self) -> None:
        """After a failure: what was read ahead belongs to other places of the graph."""
        self.settle()
        self._arriving.clear()
        self._weights[:] = [w if k in self._stays else None for k, w in enumerate(self._weights)]
        self._asked = self._computed = 0
        for block in self._blocks:
            for span in block.spans:
                self._file.mapped.drop(*span)

    def _read_tables(self) -> None:
        specs = self._body.graph.weights
        tables = [k for k, piece in enumerate(self._body.pieces) if piece.is_gathered]
        for index in tables:
            begin = self._body.pieces[index].begin
            self._weights[index] = FileTable(self._file, begin, specs[index])
        self._stays = {*tables, *self._body.plan.resident}

    def _read_kept(self) -> None:
        """What stays, in one go."""
        plan = self._body.plan
        spans = plan.resident_spans
        is_mapped = all(self._file.mapped.is_cached(*span) for span in spans)
        if is_mapped:
            for span in spans:
                self._file.mapped.populate(*span)
        else:
            for read in self._read(spans, self._kept, 0):
                read.result()
        memory, places = (self._file.mapped, None) if is_mapped else (self._kept, 0)
        for index, view in self._views_of(plan.resident, spans, memory, places):
            self._weights[index] = view

    def _block_views(self, block: Block) -> tuple[Views, Views]:
        """Of the ring, and of the file."""
        return (
            self._views_of(block.extents, block.spans, self._ring, block.offset),
            self._views_of(block.extents, block.spans, self._file.mapped, None),
        )

    def _views_of(
        self,
        indices: Sequence[int],
        spans: Sequence[Extent],
        memory: Memory,
        offset: int | None,
    ) -> Views:
        """Weights as views of memory that has the spans from `offset` on; None: all of the file."""
        data = memory.data
        shifts = {}
        at = offset
        for span in spans:
            shifts[span] = 0 if at is None else at - span.begin
            at = None if at is None else at + span.end - span.begin
        views = []
        for index in indices:
            begin, end, _ = self._body.pieces[index]
            shift = next((by for span, by in shifts.items() if span.begin <= begin < span.end), 0)
            spec = self._body.graph.weights[index]
            views.append((index, _view(data, begin + shift, end + shift, spec)))
        return views


def _view(data: Tensor, begin: int, end: int, spec: WeightSpec) -> Tensor:
    if begin == end:
        return torch.empty(spec.shape, dtype=dtype(spec.dtype))
    return data[begin:end].view(dtype(spec.dtype)).view(spec.shape)
