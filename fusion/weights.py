"""The weights file: a safetensors file laid out for one read, one copy or one memory map.

Data starts on a 4096-byte boundary (the page a map or a direct read begins at) and each tensor on
a 64-byte one (a cache line, and what CUDA's vector loads and AVX-512 want), in first-use order.
The format forbids holes: its reader requires that the tensors tile the data exactly. So a gap is
a uint8 tensor of its own, `__pad_<n>`, which any safetensors reader accepts and Fusebox leaves out.
`__metadata__` holds the SHA-256 of each tensor's bytes as `sha256.<name>`.
No torch is imported by reading an index.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fusion.errors import WeightsError
from fusion.weights_header import (
    DIGEST_PREFIX,
    DTYPES,
    PADDING_PREFIX,
    PAGE_BYTES,
    PREFIX_BYTES,
    TENSOR_ALIGNMENT_BYTES,
    Extent,
    is_padding,
    parse_header,
    read_header,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Bytes = NDArray[np.uint8]  # [nbytes] uint8, host


# hashed in less time than a thread takes to start and to be heard of, less is
BYTES_PER_THREAD = 4 * 2**20
# What is written at once is kept in huge pages where the file system has them.
WRITE_BYTES = 8 * 2**20
DTYPES_TO_TAGS = {dtype: tag for tag, (dtype, _) in DTYPES.items()}


class WeightEntry(NamedTuple):
    """Where one tensor lies; `offset` counts from the start of the data."""

    name: str
    dtype: str  # as torch names it: "float32"
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    sha256: str  # of the bytes alone: equal bytes of another dtype or shape are another tensor


@dataclass(frozen=True, slots=True)
class WeightsIndex:
    """What a weights file holds, in file order, padding left out."""

    entries: tuple[WeightEntry, ...]
    data_offset: int
    file_bytes: int

    @property
    def data_bytes(self) -> int:
        """Bytes from the first tensor to the end of the file, padding included."""
        return self.file_bytes - self.data_offset

    @property
    def total_bytes(self) -> int:
        """Bytes of the tensors alone."""
        return sum(entry.nbytes for entry in self.entries)


def write_weights(path: Path, tensors: Mapping[str, "Tensor"]) -> WeightsIndex:
    """Write `tensors` in the given order, and return what `read_index` would.

    The file appears under its name only when it is complete. Raises WeightsError for a name or a
    dtype that the file cannot hold. Strides are not kept: a tensor is stored contiguous.
    """
    arrays = {name: _as_bytes(name, tensor) for name, tensor in tensors.items()}
    encoded = _header(tensors, arrays)
    return _publish(path, encoded, arrays)


def read_index(path: Path) -> WeightsIndex:
    """Read and fully validate the header; WeightsError names what is wrong.

    Reads the header alone: digests are compared where the bytes are loaded.
    """
    try:
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            encoded = read_header(file, file_bytes)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    data_offset = PREFIX_BYTES + len(encoded)
    try:
        extents, digests = parse_header(encoded, file_bytes - data_offset)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    entries = tuple(_entry(extent, digests) for extent in extents if not is_padding(extent.name))
    return WeightsIndex(entries, data_offset, file_bytes)


def check_digests(data: memoryview, index: WeightsIndex) -> None:
    """Compare each tensor's bytes in `data` with its digest; WeightsError names the first other.

    Costs one pass over the bytes: 0.4 GB/s a core where there are no SHA instructions, on as many
    cores as there are for a large file.
    """

    def digest(entry: WeightEntry) -> str:
        return hashlib.sha256(data[entry.offset : entry.offset + entry.nbytes]).hexdigest()

    threads = min(len(os.sched_getaffinity(0)), index.total_bytes // BYTES_PER_THREAD)
    if threads < 2:
        _compare(index, map(digest, index.entries))
        return
    # hashing lets go of Python's lock
    with ThreadPoolExecutor(threads, "digests") as pool:
        _compare(index, pool.map(digest, index.entries))


def _compare(index: WeightsIndex, digests: Iterable[str]) -> None:
    for entry, found in zip(index.entries, digests, strict=True):
        if found != entry.sha256:
            raise WeightsError(f"{entry.name!r}: sha256 is {found}, expected {entry.sha256}")


def _publish(path: Path, encoded: bytes, arrays: Mapping[str, "Bytes"]) -> WeightsIndex:
    """Write beside `path`, check what was written, then give it its name."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb", WRITE_BYTES) as file:
            file.write(len(encoded).to_bytes(PREFIX_BYTES, "little"))
            file.write(encoded)
            for chunk in _aligned(arrays):
                file.write(chunk)
        index = read_index(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return index


def _entry(extent: Extent, digests: Mapping[str, str]) -> WeightEntry:
    dtype, _ = DTYPES[extent.tag]
    nbytes = extent.end - extent.begin
    return WeightEntry(extent.name, dtype, extent.shape, extent.begin, nbytes, digests[extent.name])


def _header(tensors: Mapping[str, "Tensor"], arrays: Mapping[str, "Bytes"]) -> bytes:
    header: dict[str, object] = {"__metadata__": _metadata(arrays)}
    offset = 0
    for name, array in arrays.items():
        gap = -offset % TENSOR_ALIGNMENT_BYTES
        if gap:
            header[f"{PADDING_PREFIX}{len(header)}"] = _field("U8", (gap,), offset, gap)
            offset += gap
        tag = DTYPES_TO_TAGS[_dtype_name(tensors[name])]
        header[name] = _field(tag, tuple(tensors[name].shape), offset, array.nbytes)
        offset += array.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    return encoded + b" " * (-(PREFIX_BYTES + len(encoded)) % PAGE_BYTES)


def _field(tag: str, shape: tuple[int, ...], offset: int, nbytes: int) -> dict[str, object]:
    return {"dtype": tag, "shape": list(shape), "data_offsets": [offset, offset + nbytes]}


def _metadata(arrays: Mapping[str, "Bytes"]) -> dict[str, str]:
    digests = {
        f"{DIGEST_PREFIX}{name}": hashlib.sha256(array.data).hexdigest()
        for name, array in arrays.items()
    }
    return {"format": "pt", **digests}


def _aligned(arrays: Mapping[str, "Bytes"]) -> Iterator[memoryview | bytes]:
    offset = 0
    for array in arrays.values():
        gap = -offset % TENSOR_ALIGNMENT_BYTES
        yield bytes(gap)
        yield array.data
        offset += gap + array.nbytes


def _dtype_name(tensor: "Tensor") -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _as_bytes(name: str, tensor: "Tensor") -> "Bytes":
    if is_padding(name) or name == "__metadata__":
        raise WeightsError(f"tensor name {name!r} is reserved")
    if _dtype_name(tensor) not in DTYPES_TO_TAGS:
        raise WeightsError(f"{name!r}: dtype {_dtype_name(tensor)} cannot be stored")
    import torch  # here, so that reading an index needs no torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()  # [nbytes] uint8, host
