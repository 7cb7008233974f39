""".npy and .npz bodies: read without pickle and without trusting a size, and written.

`numpy.load` allocates what a header announces before it looks at the data, so headers are read and
checked against the body here. Format: numpy.lib.format, versions 1 and 2.
"""

from __future__ import annotations

import ast
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from contract.errors import MalformedBody, PayloadTooLarge
from contract.tensors import DTYPES, MAX_RANK, Tensor, Tensors

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4}
# as numpy writes them: its reader takes programs of a little language, records among them
_DESCRS = {
    dtype.str: dtype
    for name in DTYPES
    for dtype in (np.dtype(name).newbyteorder("<"), np.dtype(name).newbyteorder(">"))
}
# numpy writes 118; more than this only serves to keep the parser busy
MAX_HEADER_BYTES = 10_000
MAX_MEMBERS = 256
# zipfile raises all of these for damaged files; NotImplementedError is a RuntimeError
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OSError,
    RuntimeError,
)


def read_npy(data: bytes, field: str = "body") -> Tensor:
    """The array of a .npy file, read-only over the same bytes; raises MalformedBody."""
    if data[:6] != _MAGIC or len(data) < 12:
        raise MalformedBody(f"{field}: not a .npy file")
    length_bytes = _LENGTH_BYTES.get(data[6])
    if length_bytes is None:
        raise MalformedBody(f"{field}: .npy format version {data[6]} is not supported")
    start = 8 + length_bytes
    end = start + int.from_bytes(data[8:start], "little")
    if end > len(data) or end - start > MAX_HEADER_BYTES:
        raise MalformedBody(f"{field}: the .npy header is larger than the file or than allowed")
    dtype, shape, order = _read_header(data[start:end], field)
    want = math.prod(shape) * dtype.itemsize
    if len(data) - end != want:
        raise MalformedBody(f"{field}: expected {want} bytes after the header of a .npy file of "
                            f"shape {list(shape)}, got {len(data) - end}")  # fmt: skip
    try:
        return np.frombuffer(data, dtype, offset=end).reshape(shape, order=order)
    except ValueError as error:  # sizes beside a 0 that together are more than numpy counts to
        raise MalformedBody(f"{field}: shape {list(shape)}: {error}") from error


def _read_header(text: bytes, field: str) -> tuple[np.dtype[Any], tuple[int, ...], Any]:
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise MalformedBody(f"{field}: the .npy header is not a literal") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise MalformedBody(f"{field}: the .npy header lacks descr, fortran_order or shape")
    descr, shape = header["descr"], header["shape"]
    dtype = _DESCRS.get(descr) if isinstance(descr, str) else None
    if dtype is None:
        raise MalformedBody(f"{field}: expected a dtype of {', '.join(DTYPES)}, got {descr!r:.100}")
    if (
        not isinstance(shape, tuple)
        or len(shape) > MAX_RANK
        or not all(type(n) is int and 0 <= n < 2**40 for n in shape)
    ):
        raise MalformedBody(f"{field}: expected a shape of at most {MAX_RANK} sizes")
    return dtype, shape, "F" if header["fortran_order"] else "C"


def read_npz(data: bytes, max_unpacked_bytes: int) -> Tensors:
    """The arrays of a .npz file; raises MalformedBody and PayloadTooLarge."""
    # the reader makes a record of every directory entry before it can be asked for their number
    if data.count(b"PK\1\2") > MAX_MEMBERS:
        raise MalformedBody(f"body: expected at most {MAX_MEMBERS} arrays")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, max_unpacked_bytes)
            return {
                member.filename.removesuffix(".npy"): read_npy(
                    _read_member(archive, member), f"body: {member.filename!r:.100}"
                )
                for member in members
            }
    except _BAD_ZIP as error:
        raise MalformedBody(f"body: not a .npz file ({error})") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    data = archive.read(member)
    if len(data) != member.file_size:
        raise MalformedBody(f"body: {member.filename!r:.100}: expected {member.file_size} bytes")
    return data


def _check_members(members: list[zipfile.ZipInfo], max_unpacked_bytes: int) -> None:
    """Refuse before anything is unpacked; `ZipFile.read` yields no more than `file_size`."""
    if len({member.filename for member in members}) != len(members):
        raise MalformedBody("body: two arrays of a .npz file have one name")
    if sum(member.file_size for member in members) > max_unpacked_bytes:
        raise PayloadTooLarge(f"The arrays of a .npz body may hold {max_unpacked_bytes} bytes.")
    for member in members:
        is_plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not is_plain or member.flag_bits & 0x1 or not member.filename.endswith(".npy"):
            raise MalformedBody(f"body: {member.filename!r:.100} is not a plain .npy member")


def write_npy(tensor: Tensor) -> bytes:
    """A .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, tensor, allow_pickle=False)
    return file.getvalue()


def write_npz(tensors: Mapping[str, Tensor]) -> bytes:
    """A .npz file; `numpy.savez` cannot hold an array named `file`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, tensor in tensors.items():
            archive.writestr(f"{name}.npy", write_npy(tensor))
    return file.getvalue()
