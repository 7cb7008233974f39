"""How a weights file comes to be in device memory; on a CPU that is a memory map.

What a slot needs of a device is the two protocols here. `MappedLoader` serves CPUs,
`fusion.loaders_cuda.CudaLoader` GPUs; both give tensors that are views of one buffer.
"""

import os
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from fusion.errors import WeightsError
from fusion.page_cache import cached_share
from fusion.places import PAGE_BYTES, Mapped, Places
from fusion.weights import WeightsIndex, check_digests


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


def views(data: Tensor, index: WeightsIndex) -> list[Tensor]:
    """Each tensor of `index` as a view of `data`, [data_bytes] uint8 on any device."""
    return [
        data[entry.offset : entry.offset + entry.nbytes]
        .view(getattr(torch, entry.dtype))
        .view(entry.shape)
        for entry in index.entries
    ]


class MappedWeights:
    """A weights file mapped read-only and shared, every page present."""

    def __init__(self, mapped: Mapped, index: WeightsIndex) -> None:
        self._mapped = mapped
        self._tensors = views(mapped.data[index.data_offset :], index)

    @property
    def tensors(self) -> list[Tensor]:
        """Views in file order, in the page cache; a write to one ends the process."""
        return self._tensors

    def wait_ready(self) -> None:
        """Nothing to wait for: the pages are present."""

    def mark_used(self) -> None:
        """Nothing to note: a CPU is done when a call returns."""

    def close(self) -> bool:
        """Unmap; False while a view is held elsewhere, for its pages are still mapped."""
        self._tensors = []
        return self._mapped.close()


def map_tensors(
    path: Path, index: WeightsIndex, is_verified: bool = False, places: Places | None = None
) -> MappedWeights:
    """Map the file once (MAP_SHARED, PROT_READ) and make its pages present.

    Raises WeightsError where the file is missing, has another size, cannot be read or, unless
    `is_verified`, where a digest differs. A mapped file must not be truncated: reading past its
    end raises SIGBUS.
    """
    try:
        with path.open("rb") as file:
            found_bytes = os.fstat(file.fileno()).st_size
            if found_bytes != index.file_bytes:
                raise WeightsError(f"{path}: {found_bytes} bytes, expected {index.file_bytes}")
            mapped = (places or Places()).map(file.fileno(), index.file_bytes)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be mapped: {error}") from error
    try:
        if not is_verified:
            check_digests(mapped.data[index.data_offset :].numpy().data, index)
        return MappedWeights(mapped, index)
    except WeightsError as error:
        mapped.close()
        raise WeightsError(f"{path}: {error}") from None


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

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> MappedWeights:
        """Map the file; see `map_tensors`."""
        return map_tensors(path, index, is_verified, self._places)
