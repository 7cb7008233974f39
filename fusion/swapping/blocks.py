"""A function that is larger than the arena: its blocks come through a ring that lies in it.

Planned as on a CPU (`fusion.blocks`). Each block is copied to its place once what lay there has
been computed, and computed once it has arrived: both waits are the device's. The host waits for the
disk, where there is no pinned copy, while the device computes what was queued before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion.arena import GRANULE_BYTES
from fusion.bindings import dtype
from fusion.blocks.body import BlockedGraph
from fusion.blocks.observed import Observed
from fusion.blocks.reader import BlockFile
from fusion.blocks.records import Extent
from fusion.blocks.tables import FileTable
from fusion.inspection import check_contents
from fusion.spans import Layout, whole
from fusion.swapping.backend import Mark
from fusion.swapping.loader import ArenaLoader
from fusion.swapping.reading import Piece
from fusion.weights import WeightsIndex


class DeviceTable:
    """A table in the file: the rows that a run asks for are gathered on the host."""

    def __init__(self, table: FileTable) -> None:
        self._table = table

    def gather(self, indices: Tensor) -> Tensor:
        """The rows, [*indices, width], where the indices are; raises IndexError as torch does."""
        return self._table.gather(indices.cpu()).to(indices.device)


class DeviceRunner:
    """One graph in its part of the arena. One thread runs it at a time."""

    def __init__(
        self, body: BlockedGraph, loader: ArenaLoader, path: Path, index: WeightsIndex, address: int
    ) -> None:
        self._body = body
        self._blocks = body.plan.blocks
        self._loader, self._copies = loader, loader.copies
        self._path, self._index = path, index
        ring, kept = address, address + body.plan.ring_bytes
        self._ring = ring
        # after the run before
        self._last: Mark | None = None
        self._file = BlockFile(path, index.file_bytes)
        self._weights: list[Any] = [None] * len(body.pieces)
        try:
            self._views = [
                self._views_of(b.extents, b.spans, ring + b.offset) for b in self._blocks
            ]
            for number, piece in enumerate(body.pieces):
                if piece.is_gathered:
                    spec = body.graph.weights[number]
                    table = FileTable(self._file, piece.begin, spec)
                    self._weights[number] = DeviceTable(table)
            for number, view in self._views_of(body.plan.resident, body.plan.resident_spans, kept):
                self._weights[number] = view
            self._bring(body.plan.resident_spans, kept)
            self._ready = self._copies.mark()
        except BaseException:
            self._file.close()
            raise

    @torch.inference_mode()
    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, there once all that was queued is done; raises WeightsError of a reader."""
        steps = self._body.code(self._weights, inputs)
        outputs: list[Tensor] | None = None
        computed: list[Mark] = []
        arrived: list[Mark] = []
        if self._last is not None:  # it may still read what lies in the ring
            self._copies.hold_back(self._last)
        self._copies.wait(self._ready)
        try:
            for place, block in enumerate(self._blocks):
                self._bring_ahead(arrived, computed)
                self._copies.wait(arrived[place])
                for number, view in self._views[place]:
                    self._weights[number] = view
                for _ in range(block.begin, block.end):
                    outputs = next(steps)
                for number in block.extents:
                    self._weights[number] = None
                computed.append(self._copies.mark_use())
        finally:
            self._last = self._copies.mark_use()
        assert outputs is not None, "the last block ends with the outputs"
        return outputs

    def close(self) -> None:
        """Close the file; memory is the arena's."""
        self._weights, self._views = [], []
        self._file.close()

    def _bring_ahead(self, arrived: list[Mark], computed: Sequence[Mark]) -> None:
        """Queue every block of this run whose place is free, behind what lay there."""
        while len(arrived) < len(self._blocks):
            block = self._blocks[len(arrived)]
            before = len(arrived) - block.after
            if before >= len(computed):
                return
            if before >= 0:
                self._copies.hold_back(computed[before])
            self._bring(block.spans, self._ring + block.offset)
            arrived.append(self._copies.mark())

    def _bring(self, spans: Sequence[Extent], address: int) -> None:
        """Queue the copies of whole spans to one place, from pinned memory or as they are read."""
        arena = self._loader.memory()
        for span in spans:
            begin = span.begin - self._index.data_offset
            end = min(span.end - self._index.data_offset, self._index.data_bytes)
            with closing(self._pieces(begin, end)) as pieces:
                for piece in pieces:
                    at, until = max(begin, piece.begin), min(end, piece.end)
                    to = address + at - begin
                    source = piece.bytes[at - piece.begin : until - piece.begin]
                    self._copies.copy(arena[to : to + until - at], source)
            address += span.end - span.begin

    def _pieces(self, begin: int, end: int) -> Generator[Piece, None, None]:
        with self._loader.host.held(self._path, begin, end) as pinned:
            if pinned is not None:
                yield from pinned
                return
        pages = -(-end // GRANULE_BYTES) * GRANULE_BYTES
        with closing(self._loader.reading.stage(self._path, self._index, [(begin, pages)])) as read:
            yield from read

    def _views_of(
        self, numbers: Iterable[int], spans: Sequence[Extent], address: int
    ) -> list[tuple[int, Tensor]]:
        """Weights as views of the arena, which has the spans from `address` on."""
        arena, views = self._loader.memory(), []
        begins = {}
        for span in spans:
            begins[span] = address
            address += span.end - span.begin
        for number in numbers:
            begin, end, _ = self._body.pieces[number]
            spec = self._body.graph.weights[number]
            kind = dtype(spec.dtype)
            if begin == end:
                views.append((number, torch.empty(spec.shape, dtype=kind, device=arena.device)))
                continue
            span = next(span for span in spans if span.begin <= begin < span.end)
            at = begins[span] + begin - span.begin
            views.append((number, arena[at : at + end - begin].view(kind).view(spec.shape)))
        return views


class DeviceBlocks:
    """A function that is ready to run in blocks; of several graphs one at a time."""

    def __init__(
        self,
        bodies: Sequence[BlockedGraph],
        loader: ArenaLoader,
        path: Path,
        index: WeightsIndex,
        address: int,
    ) -> None:
        self._bodies = bodies
        self._loader = loader
        self._where = path, index, address
        self._runner: DeviceRunner | None = None
        self._number = -1
        self._used: Mark | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """None: no weight is there for longer than its block."""
        return []

    def run(self, number: int, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs of the graph of this number."""
        return self.opened(number).run(inputs)

    def latest(self, number: int) -> tuple[BlockedGraph, Observed] | None:
        """None: what each block took is the device's to know."""
        return None

    def opened(self, number: int) -> DeviceRunner:
        """The graph's runner, in the place of another's, which may still compute."""
        if self._runner is None or self._number != number:
            if self._runner is not None:
                self._runner.close()
                self._runner = None
                # its last run may still read what the other's comes to
                self._loader.copies.hold_back(self._loader.copies.mark_use())
            self._runner = DeviceRunner(self._bodies[number], self._loader, *self._where)
            self._number = number
        return self._runner

    def wait_ready(self) -> None:
        """Nothing to wait for: each block is waited for when its turn comes."""

    def mark_used(self) -> None:
        """Note that what was computed so far may still be reading."""
        self._used = self._loader.copies.mark_use()

    def close(self) -> bool:
        """Whoever is copied to its place comes behind its last use."""
        if self._used is not None:
            self._loader.copies.hold_back(self._used)
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        return True


class DeviceBlocksLoader:
    """Makes one function resident in blocks, in a place of another loader's arena."""

    def __init__(self, bodies: Sequence[BlockedGraph], loader: ArenaLoader) -> None:
        self.bodies = tuple(bodies)
        self._loader = loader

    @property
    def arena_bytes(self) -> int:
        """Of the arena."""
        return self._loader.arena_bytes

    def slot_bytes(self, index: WeightsIndex) -> int:
        """The ring and what stays, of the graph that needs most; in no class, it fills the room."""
        return max(GRANULE_BYTES, *(body.plan.peak_bytes for body in self.bodies))

    def free_bytes(self) -> int | None:
        """None: the table's own loader measures the device."""
        return None

    def host_share(self, path: Path) -> float:
        """All where it has a pinned copy."""
        return self._loader.host_share(path)

    def layout(self, index: WeightsIndex) -> Layout:
        """One span: nothing of it is shared."""
        return whole(self.slot_bytes(index))

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> DeviceBlocks:
        """Not without a place."""
        raise NotImplementedError("a slot in an arena has a place: see load_at")

    def load_rest(
        self, path: Path, index: WeightsIndex, is_verified: bool, lent: Mapping[int, Tensor]
    ) -> DeviceBlocks:
        """Not without a place."""
        raise NotImplementedError("a slot in an arena has a place: see load_at")

    def load_at(
        self,
        path: Path,
        index: WeightsIndex,
        is_verified: bool,
        lent: Mapping[int, Tensor],
        address: int,
    ) -> DeviceBlocks:
        """Pin the file where there is room for it, and bring what stays; raises WeightsError."""
        assert not lent, "nothing of it is shared"
        with self._loader.host.pieces(path, index, is_verified) as kept:
            if kept is None and not is_verified:
                check_contents(path, index)
            deque(kept or (), maxlen=0)  # each piece is on the host from now on
        weights = DeviceBlocks(self.bodies, self._loader, path, index, address)
        weights.opened(0)
        return weights
