"""Weights files in one allocation of the device: file -> pinned host memory -> its place there."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.arena import GRANULE_BYTES, class_bytes
from fusion.errors import WeightsError
from fusion.inspection import check_contents
from fusion.loaders import typed
from fusion.spans import Layout
from fusion.swapping.backend import Copies, Mark
from fusion.swapping.host import HostTier, data_layout
from fusion.swapping.reading import Piece, Reading
from fusion.swapping.weights import ArrivingWeights
from fusion.weights import WeightsIndex

# Marks of one load, so that what needs its first part alone can begin; and no more than one for
# so many bytes.
MARKS, MARK_BYTES = 16, 4 * 2**20
# lists of views: one for each file and place
KEPT_VIEWS = 256

ViewsKey = tuple[object, ...]


class Run(NamedTuple):
    """Data of a file, and where on the device it goes."""

    begin: int
    end: int
    address: int


class ArenaLoader:
    """Serves one device. Takes its memory at the first load, all at once."""

    def __init__(self, copies: Copies, arena_bytes: int, host_budget_bytes: int) -> None:
        self.arena_bytes = arena_bytes // GRANULE_BYTES * GRANULE_BYTES
        self.copies = copies
        self.reading = Reading(copies)
        self.host = HostTier(copies, self.reading, host_budget_bytes)
        self._lock = threading.Lock()  # guards all below
        self._arena: Tensor | None = None
        self._views: OrderedDict[ViewsKey, Mapping[int, Tensor]] = OrderedDict()

    def slot_bytes(self, index: WeightsIndex) -> int:
        """The class of the file's data."""
        return self.layout(index).bytes

    def free_bytes(self) -> int | None:
        """Free on the device beside the arena, which is there from now on."""
        self.memory()
        return self.copies.free_bytes()

    def host_share(self, path: Path) -> float:
        """All where it has a pinned copy; the page cache does not count: a read is a copy more."""
        return float(path in self.host)

    def layout(self, index: WeightsIndex) -> Layout:
        """Granules of the data, and what the class has beyond them."""
        cuts, tensors = data_layout(index, GRANULE_BYTES)
        bytes_ = class_bytes(cuts[-1])
        return Layout(cuts if bytes_ == cuts[-1] else (*cuts, bytes_), tensors)

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> ArrivingWeights:
        """Not without a place."""
        raise NotImplementedError("a slot in an arena has a place: see load_at")

    def load_rest(
        self, path: Path, index: WeightsIndex, is_verified: bool, lent: Mapping[int, Tensor]
    ) -> ArrivingWeights:
        """Not without a place."""
        raise NotImplementedError("a slot in an arena has a place: see load_at")

    def load_at(
        self,
        path: Path,
        index: WeightsIndex,
        is_verified: bool,
        lent: Mapping[int, Tensor],
        address: int,
    ) -> ArrivingWeights:
        """Queue the copies of what is not lent to where its spans lie, one behind another.

        Returns when the last is queued: the host waits for the disk, and not for the device.
        Raises WeightsError.
        """
        layout = self.layout(index)
        runs = [*runs_at(layout, lent, index.data_bytes, address)]
        began = self.copies.mark(is_timed=True)
        marks = [*self._copied(path, index, is_verified, runs)]
        own = self._views_at(index, layout, lent, address)
        return ArrivingWeights(self.copies, layout, own, lent, began, marks)

    def memory(self) -> Tensor:
        """The arena, [arena_bytes] uint8, device."""
        with self._lock:
            if self._arena is None:
                self._arena = self.copies.device_memory(self.arena_bytes)
            return self._arena

    def _copied(
        self, path: Path, index: WeightsIndex, is_verified: bool, runs: Sequence[Run]
    ) -> Iterator[tuple[int, Mark]]:
        """Queue everything; marks on the way, and one at the end."""
        bytes_ = sum(run.end - run.begin for run in runs)
        each = max(MARK_BYTES, -(-bytes_ // MARKS))
        arena, copied, marked = self.memory(), 0, 0
        if runs:
            with closing(self._pieces(path, index, is_verified, runs)) as pieces:
                for begin, end, source, address in _cut(pieces, runs, each):
                    self.copies.copy(arena[address : address + end - begin], source)
                    copied += end - begin
                    if copied - marked >= each:
                        marked = copied
                        yield end, self.copies.mark()
        # also where nothing was copied: what is lent may be on its way
        yield index.data_bytes, self.copies.mark(is_timed=True)

    def _pieces(
        self, path: Path, index: WeightsIndex, is_verified: bool, runs: Sequence[Run]
    ) -> Generator[Piece, None, None]:
        """What there is on the host, or comes; each is copied before the next is asked for."""
        with self.host.pieces(path, index, is_verified) as kept:
            if kept is not None:
                yield from kept
                return
        if not is_verified:
            try:
                check_contents(path, index)
            except (OSError, WeightsError) as error:
                raise WeightsError(f"{path}: {error}") from error
        whole = [(begin, -(-end // GRANULE_BYTES) * GRANULE_BYTES) for begin, end, _ in runs]
        with closing(self.reading.stage(path, index, whole)) as staged:
            yield from staged

    def _views_at(
        self, index: WeightsIndex, layout: Layout, lent: Mapping[int, Tensor], address: int
    ) -> Mapping[int, Tensor]:
        """The file's own tensors, made once for each kind of file and place."""
        kind = tuple((entry.dtype, entry.shape, entry.offset) for entry in index.entries)
        key = (address, kind, tuple(sorted(lent)))
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
                return self._views[key]
        arena, places = self.memory(), {}
        for begin, end, at in runs_at(layout, lent, index.data_bytes, address):
            places.update(dict.fromkeys(_on(index, lent, begin, end), (begin, at)))
        views: dict[int, Tensor] = {}
        for number, entry in enumerate(index.entries):
            if number in lent:
                continue
            if not entry.nbytes:
                dtype = getattr(torch, entry.dtype)
                views[number] = torch.empty(entry.shape, dtype=dtype, device=arena.device)
                continue
            begin, at = places[number]
            first = at + entry.offset - begin
            views[number] = typed(arena[first : first + entry.nbytes], entry)
        with self._lock:
            self._views[key] = views
            if len(self._views) > KEPT_VIEWS:
                self._views.popitem(last=False)
        return views


def runs_at(
    layout: Layout, lent: Mapping[int, Tensor], data_bytes: int, address: int
) -> Iterator[Run]:
    """What a load copies: spans that are not lent lie one behind another from `address` on."""
    for begin, end in layout.runs(layout.needed(lent)):
        until = min(end, data_bytes)  # what the class has beyond them is not copied
        if begin < until:
            yield Run(begin, until, address)
        address += end - begin


def _on(index: WeightsIndex, lent: Mapping[int, Tensor], begin: int, end: int) -> Iterable[int]:
    return (
        number
        for number, entry in enumerate(index.entries)
        if entry.nbytes and number not in lent and begin <= entry.offset < end
    )


def _cut(
    pieces: Iterable[Piece], runs: Sequence[Run], most_bytes: int
) -> Iterator[tuple[int, int, Tensor, int]]:
    """The parts that are to be copied, and where to; none is larger than `most_bytes`."""
    for piece in pieces:
        for begin, end, address in runs:
            at, until = max(begin, piece.begin), min(end, piece.end)
            while at < until:
                to = min(at + most_bytes, until)
                yield at, to, piece.bytes[at - piece.begin : to - piece.begin], address + at - begin
                at = to
