"""Tensors as they cross processes: specs, packed form, and checks that name the field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from contract.errors import InvalidInput, MalformedBody

Tensor = NDArray[Any]
Tensors = dict[str, Tensor]

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
# What tensors are on the wire, little-endian. numpy works out `dtype.name` anew each time.
_WIRE = {name: np.dtype(name).newbyteorder("<") for name in DTYPES}
_NAMES = {dtype: name for name, dtype in _WIRE.items()}
MAX_RANK = 16
MAX_NAME = 256


class TensorSpec(NamedTuple):
    """Name, dtype and shape of one input or output; None in the shape stands for rows."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def encode(self) -> dict[str, Any]:
        """The spec as JSON shows it."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def decode(cls, record: Mapping[str, Any]) -> TensorSpec:
        """The spec of a JSON object; raises ValueError naming the key."""
        name, dtype, shape = record["name"], record["dtype"], record["shape"]
        if not isinstance(name, str) or not _is_name(name):
            raise ValueError(f"name: expected 1 to {MAX_NAME} printable characters but quotes")
        if dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r:.100}")
        if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(map(_is_extent, shape)):
            raise ValueError(f"shape: expected a list of sizes or null, got {shape!r:.100}")
        return cls(name, dtype, tuple(shape))

    def describe_shape(self) -> str:
        """The shape for people: `[rows, 3, 64, 64]`."""
        return f"[{', '.join('rows' if n is None else str(n) for n in self.shape)}]"

    def check(self, tensor: Tensor) -> None:
        """Raise InvalidInput unless the tensor has this dtype and shape."""
        field = f"inputs.{self.name}"
        if _name(tensor) != self.dtype:
            raise InvalidInput.of(field, f"dtype {self.dtype}", f"dtype {tensor.dtype.name}")
        if len(tensor.shape) != len(self.shape) or any(
            want is not None and want != got
            for want, got in zip(self.shape, tensor.shape, strict=True)
        ):
            raise InvalidInput.of(
                field, f"shape {self.describe_shape()}", f"shape {list(tensor.shape)}"
            )


def _name(tensor: Tensor) -> str:
    return _NAMES.get(tensor.dtype) or tensor.dtype.name


def _is_name(text: str) -> bool:
    # halves of surrogate pairs are not printable either
    return 1 <= len(text) <= MAX_NAME and text.isprintable() and '"' not in text


def _is_extent(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40


def from_nested(spec: TensorSpec, value: object) -> Tensor:
    """A tensor from nested lists, of the spec's dtype.

    Raises InvalidInput for ragged lists, for words, and for numbers the dtype cannot hold.
    """
    field = f"inputs.{spec.name}"
    want = f"nested lists of {spec.dtype} of shape {spec.describe_shape()}"
    try:
        tensor = np.array(value)
    except (ValueError, OverflowError) as error:
        raise InvalidInput.of(field, want, "ragged lists or numbers out of range") from error
    if tensor.size == 0:
        tensor = tensor.astype(spec.dtype)
    tensor = _to_dtype(field, spec.dtype, want, tensor)
    spec.check(tensor)
    return tensor


def _to_dtype(field: str, dtype: str, want: str, tensor: Tensor) -> Tensor:
    """Cast where nothing but precision is lost: int to float yes, 2.5 to int or 300 to uint8 no."""
    if tensor.dtype.kind not in "biuf":
        raise InvalidInput.of(field, want, "values that are not numbers")
    target = np.dtype(dtype)
    if (target.kind == "b") != (tensor.dtype.kind == "b"):
        raise InvalidInput.of(field, want, f"values of {tensor.dtype.name}")
    if target.kind in "iu":
        if tensor.dtype.kind == "f":
            raise InvalidInput.of(field, want, "numbers with a fraction")
        limits = np.iinfo(target)
        if tensor.size and (tensor.min() < limits.min or tensor.max() > limits.max):
            raise InvalidInput.of(field, want, f"a number outside {limits.min}..{limits.max}")
    try:
        with np.errstate(over="raise"):
            return tensor.astype(target)
    except FloatingPointError as error:
        raise InvalidInput.of(field, want, f"a number beyond {dtype}") from error


def rows_of(
    specs: tuple[TensorSpec, ...],
    tensors: Mapping[str, Tensor],
    max_rows: int,
    allowed: tuple[int, ...] = (),
) -> int:
    """Rows that all inputs agree on; raises InvalidInput where they differ or exceed max_rows.

    Or, where `allowed` names numbers, where they are none of them.
    """
    rows: int | None = None
    first = ""
    for spec in specs:
        if not spec.shape or spec.shape[0] is not None:
            continue
        got = tensors[spec.name].shape[0]
        if rows is not None and got != rows:
            raise InvalidInput.of(f"inputs.{spec.name}", f"{rows} rows as {first}", f"{got} rows")
        rows, first = got, spec.name
    rows = 1 if rows is None else rows
    if not 1 <= rows <= max_rows:
        raise InvalidInput.of(f"inputs.{first}", f"1 to {max_rows} rows", f"{rows} rows")
    if allowed and rows not in allowed:
        *others, last = map(str, allowed)
        want = f"{', '.join(others)} or {last}" if others else f"exactly {last}"
        raise InvalidInput.of(f"inputs.{first}", f"{want} rows", f"{rows} rows")
    return rows


def check_names(specs: tuple[TensorSpec, ...], names: Mapping[str, Any]) -> None:
    """Raise InvalidInput for a missing or an unexpected input."""
    for spec in specs:
        if spec.name not in names:
            want = f"{spec.dtype} {spec.describe_shape()}"
            raise InvalidInput.of(f"inputs.{spec.name}", want, "nothing")
    known = {spec.name for spec in specs}
    for name in names:
        if name not in known:
            want = f"one of {', '.join(sorted(known))}"
            raise InvalidInput.of("inputs", want, f"an input named {name!r:.100}")


def encode_tensor(tensor: Tensor) -> dict[str, Any]:
    """{dtype, shape, data}: little-endian bytes in row-major order."""
    dtype = _name(tensor)
    wire = _WIRE.get(dtype)
    if wire is None:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype}")
    data = tensor.astype(wire, copy=False).tobytes()
    return {"dtype": dtype, "shape": list(tensor.shape), "data": data}


def decode_tensor(field: str, record: object) -> Tensor:
    """The tensor of {dtype, shape, data}, read-only over the same bytes; raises MalformedBody."""
    if not isinstance(record, Mapping) or set(record) != {"dtype", "shape", "data"}:
        raise MalformedBody(f"{field}: expected a map of dtype, shape and data")
    dtype, shape, data = record["dtype"], record["shape"], record["data"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise MalformedBody(
            f"{field}.dtype: expected one of {', '.join(DTYPES)}, got {dtype!r:.100}"
        )
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_RANK
        or not all(n is not None and _is_extent(n) for n in shape)
    ):
        raise MalformedBody(f"{field}.shape: expected a list of at most {MAX_RANK} sizes")
    if not isinstance(data, bytes):
        raise MalformedBody(f"{field}.data: expected bytes, got {type(data).__name__}")
    wire = _WIRE[dtype]
    want = math.prod(shape) * wire.itemsize
    if len(data) != want:
        raise MalformedBody(f"{field}.data: expected {want} bytes, got {len(data)}")
    try:
        return np.frombuffer(data, wire).reshape(shape)
    except ValueError as error:  # sizes beside a 0 that together are more than numpy counts to
        raise MalformedBody(f"{field}.shape: {shape}: {error}") from error


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as one msgpack map."""
    packed = msgpack.packb({name: encode_tensor(t) for name, t in tensors.items()})
    assert isinstance(packed, bytes)
    return packed


def unpack_tensors(data: bytes) -> Tensors:
    """The tensors of `pack_tensors`; raises MalformedBody."""
    try:
        records = msgpack.unpackb(data, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedBody(f"tensors: not msgpack ({error})") from error
    if not isinstance(records, dict) or not all(isinstance(name, str) for name in records):
        raise MalformedBody("tensors: expected a map from names to tensors")
    return {name: decode_tensor(name, record) for name, record in records.items()}
