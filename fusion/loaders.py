"""How a weights file comes to be in device memory; on a CPU that is a memory map.

What a slot needs of a device is the two protocols here. `MappedLoader` serves CPUs,
`fusion.swapping.loader.ArenaLoader` GPUs; both give tensors that are views of one buffer.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fusion.errors import WeightsError
from fusion.page_cache import cached_share
from fusion.places import PAGE_BYTES, Mapped, Places
from fusion.spans import Layout, page_layout
from fusion.weights import WeightEntry, WeightsIndex, check_digests


class ResidentWeights(Protocol):
    """The weights of one function in device memory."""

    @property
    def tensors(self) -> list[Tensor]:
        """Views in file order, device; to be read only, and not after `close`."""

    def wait_ready(self) -> None:
        """Order what the current stream does next after the copy to the device."""

    def mark_used(self) -> None:
        """Note that the current stream may still be reading."""

    def close(self) -> bool:
        """Free the memory; False where a view is still held elsewhere, to be tried again."""


class Loader(Protocol):
    """Brings weights files to one device."""

    def slot_bytes(self, index: WeightsIndex) -> int:
        """Device bytes that `load` will take."""

    def free_bytes(self) -> int | None:
        """Measured free device bytes; None where memory is not the device's own to measure."""

    def host_share(self, path: Path) -> float:
        """Share of this weights file that is in host memory, from where it loads faster."""

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> ResidentWeights:
        """Bring the file in, comparing digests unless `is_verified`; raises WeightsError."""


@runtime_checkable
class SharingLoader(Loader, Protocol):
    """One that can leave out tensors which are resident already."""

    def layout(self, index: WeightsIndex) -> Layout:
        """What of a file is freed together."""

    def load_rest(
        self, path: Path, index: WeightsIndex, is_verified: bool, lent: Mapping[int, Tensor]
    ) -> ResidentWeights:
        """`load`, but for the tensors in `lent`, by their number, which it takes as they are."""


@runtime_checkable
class SeatedLoader(SharingLoader, Protocol):
    """One whose memory is a single arena: what is loaded has been given a place in it."""

    @property
    def arena_bytes(self) -> int:
        """The size of the arena."""

    def load_at(
        self,
        path: Path,
        index: WeightsIndex,
        is_verified: bool,
        lent: Mapping[int, Tensor],
        address: int,
    ) -> ResidentWeights:
        """`load_rest` to a place in the arena, with a byte for each of the layout's."""


def views(data: Tensor, index: WeightsIndex) -> list[Tensor]:
    """Each tensor of `index` as a view of `data`, [data_bytes] uint8 on any device."""
    return [
        typed(data[entry.offset : entry.offset + entry.nbytes], entry) for entry in index.entries
    ]


def typed(data: Tensor, entry: WeightEntry) -> Tensor:
    """Bytes, [nbytes] uint8, as the tensor that they are."""
    return data.view(getattr(torch, entry.dtype)).view(entry.shape)


class MappedWeights:
    """A weights file mapped read-only and shared, every page that is needed present."""

    def __init__(
        self, mapped: Mapped, index: WeightsIndex, layout: Layout, lent: Mapping[int, Tensor]
    ) -> None:
        self._mapped = mapped
        self._layout = layout
        self._spans = set(layout.needed(lent))
        # each a view of its own, so that they can be given up one by one
        self._own = {
            number: _tensor_of(mapped, index, entry)
            for number, entry in enumerate(index.entries)
            if number not in lent
        }
        every = {**lent, **self._own}
        self._tensors = [every[number] for number in range(len(index.entries))]

    @property
    def tensors(self) -> list[Tensor]:
        """Views in file order, in the page cache; a write to one ends the process."""
        return self._tensors

    def tensor(self, number: int) -> Tensor:
        """One of the file's own, for another function."""
        return self._own[number]

    def wait_ready(self) -> None:
        """Nothing to wait for: the pages are present."""

    def mark_used(self) -> None:
        """Nothing to note: a CPU is done when a call returns."""

    def retire(self) -> None:
        """Forget the tensors of others; its own stay until their spans are freed."""
        self._tensors = []

    def free(self, spans: Sequence[int]) -> list[int]:
        """Unmap what nobody holds; the spans that stay because a view is held elsewhere."""
        self.retire()
        freed = set(spans)
        for number in [*self._own]:
            if not freed.isdisjoint(self._layout.tensors[number]):
                del self._own[number]
        if freed == self._spans and self._mapped.close():
            self._spans = set()
            return []
        left = [span for span in spans if not self._unmap(span)]
        if not self._spans:
            self._own.clear()  # empty tensors lie on no span
            self._mapped.close()
        return left

    def close(self) -> bool:
        """Unmap; False while a view is held elsewhere, for its pages are still mapped."""
        return not self.free(sorted(self._spans))

    def _unmap(self, span: int) -> bool:
        is_free = self._mapped.unmap(*self._layout.cuts[span : span + 2])
        if is_free:
            self._spans.discard(span)
        return is_free


def _tensor_of(mapped: Mapped, index: WeightsIndex, entry: WeightEntry) -> Tensor:
    if not entry.nbytes:  # it has no address, and keeps no page
        return torch.empty(entry.shape, dtype=getattr(torch, entry.dtype))
    begin = index.data_offset + entry.offset
    return typed(mapped.view(begin, begin + entry.nbytes), entry)


def map_tensors(
    path: Path,
    index: WeightsIndex,
    is_verified: bool = False,
    places: Places | None = None,
    lent: Mapping[int, Tensor] | None = None,
) -> MappedWeights:
    """Map the file once (MAP_SHARED, PROT_READ) and make its pages present.

    Tensors in `lent`, by their number, are taken as they are; pages that hold nothing else are not
    mapped. Raises WeightsError where the file is missing, has another size, cannot be read or,
    unless `is_verified`, where a digest differs. A mapped file must not be truncated: reading past
    its end raises SIGBUS.
    """
    lent = lent or {}
    layout = page_layout(index, PAGE_BYTES)
    try:
        with path.open("rb") as file:
            found_bytes = os.fstat(file.fileno()).st_size
            if found_bytes != index.file_bytes:
                raise WeightsError(f"{path}: {found_bytes} bytes, expected {index.file_bytes}")
            runs = layout.runs(layout.needed(lent))
            mapped = (places or Places()).map(file.fileno(), index.file_bytes, runs)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be mapped: {error}") from error
    problem = None if is_verified else _other_digest(mapped, index, lent)
    if problem:
        mapped.close()
        raise WeightsError(f"{path}: {problem}")
    return MappedWeights(mapped, index, layout, lent)


def _other_digest(mapped: Mapped, index: WeightsIndex, lent: Mapping[int, Tensor]) -> str | None:
    """What is wrong with the tensors that are the file's own; no error, which would keep views."""
    own = tuple(entry for number, entry in enumerate(index.entries) if number not in lent)
    try:
        check_digests(mapped.data[index.data_offset :].numpy().data, replace(index, entries=own))
    except WeightsError as error:
        return str(error)
    return None


class MappedLoader:
    """Serves a CPU: a slot is the file itself, mapped, so loading copies nothing."""

    def __init__(self) -> None:
        self._places = Places()

    def slot_bytes(self, index: WeightsIndex) -> int:
        """Whole pages of the file, header included: what the process's resident set grows by."""
        return -(-index.file_bytes // PAGE_BYTES) * PAGE_BYTES

    def free_bytes(self) -> int | None:
        """None: mapped pages are the page cache's, which the kernel reclaims by itself."""
        return None

    def host_share(self, path: Path) -> float:
        """What the page cache has of it, which all processes of the machine share."""
        return cached_share(path)

    def layout(self, index: WeightsIndex) -> Layout:
        """Pages."""
        return page_layout(index, PAGE_BYTES)

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> MappedWeights:
        """Map the file; see `map_tensors`."""
        return self.load_rest(path, index, is_verified, {})

    def load_rest(
        self, path: Path, index: WeightsIndex, is_verified: bool, lent: Mapping[int, Tensor]
    ) -> MappedWeights:
        """Map what is not lent; see `map_tensors`."""
        return map_tensors(path, index, is_verified, self._places, lent)
