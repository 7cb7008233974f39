"""A weights file's header: read, parsed and validated as hostile input.

The rules are those of safetensors' own reader, and Fusebox's alignment and digests on top.
"""

import json
import math
import re
from collections import Counter
from reprlib import repr as brief  # hostile values can be megabytes long
from typing import BinaryIO, NamedTuple

from fusion.errors import WeightsError

PREFIX_BYTES = 8  # the header's length, little endian
PAGE_BYTES = 4096
TENSOR_ALIGNMENT_BYTES = 64
# 200 tensors take about 40 KB; the limit keeps a hostile length from being read and parsed
MAX_HEADER_BYTES = 16 * 2**20
# above any memory, below where strides overflow 64 bits
MAX_ELEMENTS = 2**48
MAX_DIMENSIONS = 64  # torch's own limit
MAX_SIZE = 2**63 - 1
DIGEST_PREFIX = "sha256."
PADDING_PREFIX = "__pad_"

# safetensors' tag -> torch's name, bytes an element
DTYPES: dict[str, tuple[str, int]] = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I16": ("int16", 2),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I32": ("int32", 4),
    "F32": ("float32", 4),
    "I64": ("int64", 8),
    "F64": ("float64", 8),
}


class Extent(NamedTuple):
    """One tensor of the header, padding included; `begin` and `end` count from the data's start."""

    name: str
    tag: str
    shape: tuple[int, ...]
    begin: int
    end: int


def is_padding(name: str) -> bool:
    """Whether `name` is that of a gap between tensors."""
    return name.startswith(PADDING_PREFIX)


def read_header(file: BinaryIO, file_bytes: int) -> bytes:
    """The header's bytes, once its length is known to be sane."""
    prefix = file.read(PREFIX_BYTES)
    if len(prefix) < PREFIX_BYTES:
        raise WeightsError(f"truncated: {len(prefix)} bytes, expected at least {PREFIX_BYTES}")
    header_bytes = int.from_bytes(prefix, "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise WeightsError(f"header: {header_bytes} bytes, expected at most {MAX_HEADER_BYTES}")
    if PREFIX_BYTES + header_bytes > file_bytes:
        raise WeightsError(f"truncated: header of {header_bytes} bytes in a {file_bytes}-byte file")
    if (PREFIX_BYTES + header_bytes) % PAGE_BYTES:
        raise WeightsError(
            f"data starts at {PREFIX_BYTES + header_bytes}, expected a multiple of {PAGE_BYTES}"
        )
    encoded = file.read(header_bytes)
    if len(encoded) < header_bytes:
        raise WeightsError(f"truncated: header has {len(encoded)} of {header_bytes} bytes")
    return encoded


def parse_header(encoded: bytes, data_bytes: int) -> tuple[list[Extent], dict[str, str]]:
    """All tensors in file order, and the digest of each that is not padding."""
    header = _decode(encoded)
    metadata = header.pop("__metadata__", None)
    extents = sorted(
        (_extent(name, field) for name, field in header.items()),
        key=lambda extent: (extent.begin, extent.end),
    )
    _check_tiling(extents, data_bytes)
    return extents, _digests(metadata, [e.name for e in extents if not is_padding(e.name)])


def _decode(encoded: bytes) -> dict[str, object]:
    if not encoded.startswith(b"{"):
        raise WeightsError("header: expected a JSON object")
    try:
        header = json.loads(encoded.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"header: not valid JSON: {error}") from error
    assert isinstance(header, dict)  # it began with a brace
    return header


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise WeightsError(f"header: key {brief(twice)} appears twice")
    return fields


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _extent(name: str, field: object) -> Extent:
    if not isinstance(field, dict) or set(field) != {"dtype", "shape", "data_offsets"}:
        raise _fault(name, "expected an object of dtype, shape and data_offsets")
    if not _is_unicode(name):
        raise _fault(name, "the name is not valid Unicode")
    tag, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(tag, str) or tag not in DTYPES:
        raise _fault(name, f"dtype is {brief(tag)}, expected one of {', '.join(DTYPES)}")
    if not _is_sizes(shape):
        raise _fault(name, f"shape is {brief(shape)}, expected at most {MAX_DIMENSIONS} sizes")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _fault(name, f"data_offsets is {brief(offsets)}, expected [begin, end]")
    # a size of 0 must not hide one that overflows a stride
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise _fault(name, f"shape {brief(shape)} exceeds {MAX_ELEMENTS} elements")
    begin, end = offsets
    _, element_bytes = DTYPES[tag]
    expected = math.prod(shape) * element_bytes
    if end - begin != expected:
        raise _fault(
            name,
            f"data_offsets {brief(offsets)} hold {end - begin} bytes, "
            f"{tag} of shape {brief(shape)} takes {expected}",
        )
    return Extent(name, tag, tuple(shape), begin, end)


def _fault(name: str, problem: str) -> WeightsError:
    return WeightsError(f"{brief(name)}: {problem}")


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        return False
    return True


def _is_sizes(value: object) -> bool:
    # type, not isinstance: true is an int in Python, not in the format
    return (
        isinstance(value, list)
        and len(value) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size <= MAX_SIZE for size in value)
    )


def _check_tiling(extents: list[Extent], data_bytes: int) -> None:
    at = 0
    for name, _, _, begin, end in extents:
        if begin != at:
            problem = "overlaps the tensor before it" if begin < at else "leaves a hole before it"
            raise _fault(name, f"begins at {begin}, expected {at}: {problem}")
        if begin % TENSOR_ALIGNMENT_BYTES and not is_padding(name):
            raise _fault(name, f"begins at {begin}, not at a multiple of {TENSOR_ALIGNMENT_BYTES}")
        at = end
    if at != data_bytes:
        raise WeightsError(f"data: {data_bytes} bytes, expected {at} by the tensors' data_offsets")


def _digests(metadata: object, names: list[str]) -> dict[str, str]:
    if not isinstance(metadata, dict):
        raise WeightsError(f"__metadata__: {brief(metadata)}, expected an object with the digests")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise WeightsError(f"__metadata__[{brief(key)}]: {brief(value)}, expected a string")
    digests = {name: metadata.get(f"{DIGEST_PREFIX}{name}", "") for name in names}
    for name, digest in digests.items():
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise _fault(name, f"sha256 is {brief(digest)}, expected 64 hex digits")
    return digests
