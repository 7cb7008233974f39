"""V2's datatypes: their numpy dtypes, their bytes on the wire, and their values in JSON."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import RequestError
from contract.tensors import MAX_RANK, Tensor, TensorSpec, from_nested

BYTES, BF16, BOOL = "BYTES", "BF16", "BOOL"
# little-endian on the wire; BOOL is a byte, BF16 the upper half of a float32, BYTES has lengths
DTYPES: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
DATATYPES = (*DTYPES, BF16, BYTES)
OF_DTYPE = {dtype: datatype for datatype, dtype in DTYPES.items()}
_WIRE = {datatype: np.dtype(dtype).newbyteorder("<") for datatype, dtype in DTYPES.items()}
ITEM_BYTES = {datatype: dtype.itemsize for datatype, dtype in _WIRE.items()} | {BF16: 2}
# Each is an object of its own, many times as large as a short string on the wire.
MAX_ELEMENTS = 2**20
_LENGTH = struct.Struct("<I")
_JSON_TYPES: dict[str, frozenset[type]] = {
    "b": frozenset({bool, int}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
}

# elements of a BYTES tensor, in row-major order
Elements = list[bytes]
Shape = Sequence[int]


def from_wire(name: str, datatype: str, shape: Shape, data: memoryview) -> Tensor | Elements:
    """A tensor of its bytes: over the same memory where numpy has the type; BF16 as float32.

    Raises RequestError where the bytes are not those of the shape.
    """
    if datatype == BYTES:
        return _elements(name, shape, data)
    count = math.prod(shape)
    want = count * ITEM_BYTES[datatype]
    if len(data) != want:
        raise RequestError(
            f"unexpected size for input '{name}': {list(shape)} of {datatype} takes {want} bytes, "
            f"got {len(data)}"
        )
    if datatype == BF16:
        halves = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return shaped(name, halves.view(np.float32), shape)
    if datatype == BOOL:
        # whatever is not 0 is true, in every language of the clients
        return shaped(name, np.frombuffer(data, np.uint8) != 0, shape)
    return shaped(name, np.frombuffer(data, _WIRE[datatype]), shape)


def to_wire(datatype: str, value: Tensor | Sequence[bytes]) -> bytes:
    """The bytes of a tensor; float32 for BF16, of which the lower halves are dropped."""
    if datatype == BYTES:
        return b"".join(part for each in value for part in (_LENGTH.pack(len(each)), each))
    assert isinstance(value, np.ndarray)
    if datatype == BF16:
        return (value.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return value.astype(_WIRE[datatype], copy=False).tobytes()


def _elements(name: str, shape: Shape, data: memoryview) -> Elements:
    """Strings with their lengths in front; at most one for every four bytes."""
    count, at = _bounded(name, shape), 0
    if count * _LENGTH.size > len(data):
        raise RequestError(
            f"unexpected size for input '{name}': {count} elements of BYTES take at least "
            f"{count * _LENGTH.size} bytes, got {len(data)}"
        )
    found: Elements = []
    while at + _LENGTH.size <= len(data) and len(found) < count:
        begin = at + _LENGTH.size
        at = begin + _LENGTH.unpack_from(data, at)[0]
        found.append(bytes(data[begin:at]))
    if at != len(data) or len(found) != count:
        raise RequestError(
            f"unexpected size for input '{name}': {count} elements of BYTES with their lengths "
            f"do not end with its {len(data)} bytes"
        )
    return found


def _bounded(name: str, shape: Shape) -> int:
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise RequestError(f"input '{name}': expected at most {MAX_ELEMENTS} elements of BYTES")
    return count


def from_json(name: str, datatype: str, shape: Shape, data: object) -> Tensor | Elements:
    """A tensor of its JSON values, flat or nested, row-major; raises RequestError."""
    if datatype == BF16:
        raise RequestError(f"input '{name}': BF16 has no form in JSON; send its bytes")
    leaves = _leaves(name, data)
    count = math.prod(shape)
    if len(leaves) != count:
        raise RequestError(
            f"unexpected number of values for input '{name}': shape {list(shape)} has {count}, "
            f"got {len(leaves)}"
        )
    if datatype == BYTES:
        _bounded(name, shape)
        return [_text(name, leaf) for leaf in leaves]
    return shaped(name, _numbers(name, datatype, leaves), shape)


def _leaves(name: str, data: object) -> list[Any]:
    """The values of nested lists, without recursion and without trusting their depth."""
    if not isinstance(data, list):
        raise RequestError(f"input '{name}': expected data to be an array")
    level = data
    for _ in range(MAX_RANK):
        if not level or type(level[0]) is not list:
            return level
        if set(map(type, level)) != {list} or len(set(map(len, level))) != 1:
            raise RequestError(f"input '{name}': expected data to be flat, or evenly nested arrays")
        level = list(chain.from_iterable(level))
    raise RequestError(f"input '{name}': expected data nested at most {MAX_RANK - 1} deep")


def _numbers(name: str, datatype: str, leaves: list[Any]) -> NDArray[Any]:
    dtype = np.dtype(DTYPES[datatype])
    # words must not reach numpy, which makes all as wide as the longest
    found = set(map(type, leaves))
    if not found <= _JSON_TYPES[dtype.kind] or (dtype.kind == "b" and not _are_flags(leaves)):
        got = ", ".join(sorted(kind.__name__ for kind in found))
        raise RequestError(f"input '{name}': expected data of {datatype}, got values of {got}")
    if dtype.kind == "b":
        return np.array(leaves, dtype=np.bool_)
    if datatype == "UINT64":
        # what exceeds int64 makes floats of its neighbours
        if leaves and not 0 <= min(leaves) <= max(leaves) < 2**64:
            raise RequestError(f"input '{name}': a number outside 0..{2**64 - 1} for UINT64")
        return np.array(leaves, dtype=np.uint64)
    return from_nested(TensorSpec(name, dtype.name, (len(leaves),)), leaves)


def _are_flags(leaves: Iterable[Any]) -> bool:
    return set(leaves) <= {0, 1}


def _text(name: str, leaf: object) -> bytes:
    if not isinstance(leaf, str):
        kind = type(leaf).__name__
        raise RequestError(f"input '{name}': expected strings for BYTES, got a value of {kind}")
    # the reader of JSON lets no half of a surrogate pair pass
    return leaf.encode()


def shaped(name: str, array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """The array in this shape, which has as many elements; raises RequestError."""
    try:
        return array.reshape(shape)
    except ValueError as error:  # sizes beside a 0 that together are more than numpy counts to
        raise RequestError(f"input '{name}': shape {list(shape)}: {error}") from error
