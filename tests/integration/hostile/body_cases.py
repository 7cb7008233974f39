"""Bodies of invocations that are not what they say, or much more than they seem."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import msgpack
import numpy as np

from gateway.numpy_files import write_npy
from tests.integration.hostile.harness import Case, request

ECHO, PICK = "/v1/functions/echo/invoke", "/v1/functions/pick/invoke"
X = np.array([[1, 2, 3, 4]], np.float32)
PACKED = {"dtype": "float32", "shape": [1, 4], "data": X.tobytes()}


def _case(
    name: str, media: str, body: bytes, status: int = 400, about: str = "body", path: str = ECHO
) -> Case:
    return Case(name, request("POST", path, {"Content-Type": media}, body), status, about)


def _json(name: str, body: bytes, status: int = 422, about: str = "x", path: str = ECHO) -> Case:
    return _case(name, "application/json", body, status, about, path)


def _x(value: bytes) -> bytes:
    return b'{"inputs":{"x":' + value + b"}}"


JSON = [
    _json("nothing", b"", 400, "body"),
    _json("a space", b" ", 400, "body"),
    _json("half an object", b'{"inputs":', 400, "body"),
    _json("two values", b"{}{}", 400, "body"),
    _json("bytes that are not UTF-8", b'{"inputs":{"\xff":1}}', 400, "body"),
    _json("UTF-16", '{"inputs":{"x":[[1,2,3,4]]}}'.encode("utf-16"), 400, "body"),
    _json("a byte order mark", b"\xef\xbb\xbf" + _x(b"[[1,2,3,4]]"), 400, "body"),
    _json("half a surrogate pair", b'{"inputs":{"\\ud800":1}}', 400, "body"),
    _json("100,000 open brackets", b"[" * 100_000, 400, "body"),
    _json("100,000 nested objects", b'{"a":' * 100_000, 400, "body"),
    _json("100,000 nested lists", _x(b"[" * 100_000 + b"]" * 100_000), 400, "body"),
    _json("1,000 nested lists", _x(b"[" * 1_000 + b"]" * 1_000)),
    _json("70 nested lists", _x(b"[" * 70 + b"1" + b"]" * 70)),
    _json("NaN", _x(b"[[1,2,3,NaN]]"), 400, "body"),
    _json("Infinity", _x(b"[[1,2,3,Infinity]]"), 400, "body"),
    _json("-Infinity", _x(b"[[1,2,3,-Infinity]]"), 400, "body"),
    _json("1e999", _x(b"[[1,2,3,1e999]]"), 400, "body"),
    _json("beyond float32", _x(b"[[1,2,3,1e300]]")),
    _json("a number", b"1", 422, "body"),
    _json("a list", b"[]", 422, "body"),
    _json("null", b"null", 422, "body"),
    _json("no inputs", b"{}", 422, "inputs"),
    _json("inputs of null", b'{"inputs":null}', 422, "inputs"),
    _json("inputs of a list", b'{"inputs":[1]}', 422, "inputs"),
    _json("another member", b'{"inputs":{"x":[[1,2,3,4]]},"y":1}', 422, "body"),
    _json("another input", b'{"inputs":{"x":[[1,2,3,4]],"y":1}}', 422, "inputs"),
    _json("an input of 100,000 characters", b'{"inputs":{"x":1,"' + b"y" * 100_000 + b'":1}}', 422,
          "inputs"),
    _json("no input x", b'{"inputs":{}}'),
    _json("an input twice", b'{"inputs":{"x":[[9,9,9,9]],"x":[[1,2,3,4]]}}'),
    _json("an input of null", _x(b"null")),
    _json("an object", _x(b'{"a":1}')),
    _json("a string", _x(b'"1234"')),
    _json("strings of numbers", _x(b'[["1","2","3","4"]]')),
    _json("one long string among many",
          _x(b'[["' + b"a" * 1_000_000 + b'"' + b',""' * 500_000 + b"]]")),
    _json("many long strings", _x(b"[" + (b'["' + b"a" * 30_000 + b'","",1,2],') * 100 + b"[1]]")),
    _json("true for numbers", _x(b"[[true,true,true,true]]")),
    _json("null among numbers", _x(b"[[1,2,3,null]]")),
    _json("ragged lists", _x(b"[[1,2,3,4],[1]]")),
    _json("ragged and deep", _x(b"[[1,2,3,4],[[[[1]]]]]")),
    _json("a rank less", _x(b"[1,2,3,4]")),
    _json("a rank more", _x(b"[[[1,2,3,4]]]")),
    _json("a scalar", _x(b"1")),
    _json("a column less", _x(b"[[1,2,3]]")),
    _json("no rows", _x(b"[]")),
    _json("no rows, as a list of nothing", _x(b"[[]]")),
    _json("nine rows of eight", _x(b"[" + b"[1,2,3,4]," * 8 + b"[1,2,3,4]]")),
    _json("100,000 rows", _x(b"[" + b"[1,2,3,4]," * 100_000 + b"[1,2,3,4]]")),
    _json("two million lists of nothing", _x(b"[" + b"[]," * 1_000_000 + b"[]]")),
    _json("an index beyond 64 bits", _x(b"[18446744073709551616]"), path=PICK),
    _json("an index of 20 digits", _x(b"[18446744073709551615]"), path=PICK),
    _json("an index with a fraction", _x(b"[1.5]"), path=PICK),
    _json("an index beyond the table", _x(b"[8]"), path=PICK),
    _json("a negative index", _x(b"[-1]"), path=PICK),
    _json("the largest index", _x(b"[9223372036854775807]"), path=PICK),
    _json("the smallest index", _x(b"[-9223372036854775808]"), path=PICK),
    _json("one index of many beyond the table", _x(b"[0,1,2,3,4,5,6,1000000]"), path=PICK),
    _json("more than a body may hold", b" " * 5_000_000, 413, "body"),
    _case("a type nobody knows", "text/html", b"<x>", 415, "Content-Type"),
    _case("bytes of no type", "application/octet-stream", b"\0", 415, "Content-Type"),
    _case("a type of 4000 characters", "x" * 4_000, b"\0", 415, "Content-Type"),
    _case("pickle", "application/python-pickle", b"\x80\x04.", 415, "Content-Type"),
    _case("gzip", "application/gzip", b"\x1f\x8b", 415, "Content-Type"),
]  # fmt: skip


def _tensor(**changes: Any) -> bytes:
    packed: bytes = msgpack.packb({"inputs": {"x": PACKED | changes}})
    return packed


def _msgpack(name: str, body: bytes, status: int = 400, about: str = "", path: str = ECHO) -> Case:
    return _case(name, "application/msgpack", body, status, about, path)


MSGPACK = [
    _msgpack("nothing", b""),
    _msgpack("a byte that is never used", b"\xc1"),
    _msgpack("an array of 2**32 - 1", b"\xdd\xff\xff\xff\xff"),
    _msgpack("a map of 2**32 - 1", b"\xdf\xff\xff\xff\xff"),
    _msgpack("a string of 2**32 - 1", b"\xdb\xff\xff\xff\xff"),
    _msgpack("bytes of 2**32 - 1", b"\xc6\xff\xff\xff\xff"),
    _msgpack("an extension of 2**32 - 1", b"\xc9\xff\xff\xff\xff\x01"),
    _msgpack("arrays as long as the body, nested",
             (b"\xdd" + (3_000_000).to_bytes(4, "big")) * 500 + b"\xc0" * 3_500_000),
    _msgpack("maps as long as the body, nested",
             (b"\xdf" + (1_000_000).to_bytes(4, "big") + b"\xc0") * 500 + b"\xc0" * 2_500_000),
    _msgpack("3,000,000 nested arrays", b"\x91" * 3_000_000),
    _msgpack("100,000 nested maps", b"\x81\xa1a" * 100_000),
    _msgpack("two values", _tensor() * 2),
    _msgpack("half a value", _tensor()[:-1]),
    _msgpack("a number", b"\x01", 422),
    _msgpack("a timestamp", msgpack.packb(msgpack.Timestamp(1, 2))),
    _msgpack("a timestamp for x", msgpack.packb({"inputs": {"x": msgpack.Timestamp(1, 2)}})),
    _msgpack("an extension", msgpack.packb({"inputs": {"x": msgpack.ExtType(5, b"abc")}})),
    _msgpack("pickle in an extension", msgpack.packb(msgpack.ExtType(1, b"cos\nsystem\n."))),
    _msgpack("a key twice", b"\x82\xa6inputs\x80\xa6inputs\x80"),
    _msgpack("a name twice", b"\x81\xa6inputs\x82\xa1x\xc0\xa1x\xc0"),
    _msgpack("a number for a key", msgpack.packb({1: 2})),
    _msgpack("a list for a key", b"\x81\x91\x01\x02"),
    _msgpack("a name that is not UTF-8", b"\x81\xa6inputs\x81\xa1\xff\xc0"),
    _msgpack("no tensor", msgpack.packb({"inputs": {"x": [[1.0]]}}), about="x"),
    _msgpack("a member more", _tensor(extra=1), about="x"),
    _msgpack("an unknown dtype", _tensor(dtype="object"), about="dtype"),
    _msgpack("a dtype of 100,000 characters", _tensor(dtype="f" * 100_000), about="dtype"),
    _msgpack("a dtype that is a list", _tensor(dtype=["float32"]), about="dtype"),
    _msgpack("another dtype", _tensor(dtype="float64", shape=[1, 2]), 422, "x"),
    _msgpack("a dtype of other bytes", _tensor(dtype="float64"), about="data"),
    _msgpack("a shape that is a number", _tensor(shape=4), about="shape"),
    _msgpack("a shape of words", _tensor(shape=["1", "4"]), about="shape"),
    _msgpack("a shape of fractions", _tensor(shape=[1.0, 4.0]), about="shape"),
    _msgpack("a negative size", _tensor(shape=[-1, -4]), about="shape"),
    _msgpack("a true size", _tensor(shape=[True, 4]), about="shape"),
    _msgpack("a size of 2**63", _tensor(shape=[2**63]), about="shape"),
    _msgpack("sizes whose product overflows", _tensor(shape=[2**39, 2**39, 2**39]), about="data"),
    _msgpack("sizes whose product overflows to 4", _tensor(shape=[2**32, 2**32, 4]), about="data"),
    _msgpack("a zero beside what overflows", _tensor(shape=[0, 2**39, 2**39], data=b""),
             about="shape"),
    _msgpack("100 dimensions", _tensor(shape=[1] * 100), about=""),
    _msgpack("data that is text", _tensor(data="0" * 16), about="data"),
    _msgpack("data that is too short", _tensor(data=b"0" * 15), about="data"),
    _msgpack("data that is too long", _tensor(data=b"0" * 17), about="data"),
    _msgpack("no data", _tensor(data=b""), about="data"),
    _msgpack("no rows", _tensor(shape=[0, 4], data=b""), 422, "x"),
    _msgpack("a rank less", _tensor(shape=[4]), 422, "x"),
    _msgpack("a million rows", _tensor(shape=[200_000, 4], data=bytes(3_200_000)), 422, "x"),
    _msgpack("an index beyond the table",
             msgpack.packb({"inputs": {"x": {"dtype": "int64", "shape": [1],
                                             "data": struct.pack("<q", 8)}}}), 422, "x", PICK),
]  # fmt: skip


def _npy_header(text: str, data: bytes = X.tobytes(), version: int = 1) -> bytes:
    encoded = text.encode("latin-1")
    length = len(encoded).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + encoded + data


def _descr(descr: str = "'<f4'", shape: str = "(1, 4)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n"


def _pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    return file.getvalue()


def _npy(name: str, body: bytes, status: int = 400, about: str = "body") -> Case:
    return _case(name, "application/x-npy", body, status, about)


NPY = [
    _npy("nothing", b""),
    _npy("the magic alone", b"\x93NUMPY"),
    _npy("pickled objects", _pickled()),
    _npy("a pickle", b"\x80\x04cposix\nsystem\n(S'true'\ntR."),
    _npy("version 9", _npy_header(_descr(), version=9)),
    _npy("a header longer than the file", b"\x93NUMPY\x01\x00\xff\xff{"),
    _npy("a header of 4 GB", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"),
    _npy("a header of 2 MB", _npy_header(_descr() + " " * 2_000_000, version=2)),
    _npy("a header that is code", _npy_header("__import__('os').system('true')")),
    _npy("a header of 9000 minus signs", _npy_header("-" * 9_000 + "1")),
    _npy("a header of 9000 brackets", _npy_header("(" * 9_000)),
    _npy("a header of 9000 digits", _npy_header("9" * 9_000)),
    _npy("a header with a list for a key", _npy_header("{[]: 1}")),
    _npy("a header with a set of lists", _npy_header("{[1]}")),
    _npy("a header with a NUL", _npy_header("{\0}")),
    _npy("a header of nothing", _npy_header("")),
    _npy("a header that lacks its shape", _npy_header("{'descr': '<f4', 'fortran_order': False}")),
    _npy("objects", _npy_header(_descr("'|O'"))),
    _npy("records", _npy_header(_descr("[('a', '<f4')]"))),
    _npy("records in a word", _npy_header(_descr("'f4,f4'"))),
    _npy("3000 records in a word", _npy_header(_descr("'" + "f4," * 3_000 + "'"))),
    _npy("strings of 2**31 bytes", _npy_header(_descr("'|S2147483647'"))),
    _npy("complex numbers", _npy_header(_descr("'<c8'"))),
    _npy("times", _npy_header(_descr("'<M8[ns]'"))),
    _npy("a descr that is a number", _npy_header(_descr("4"))),
    _npy("a shape that is a list", _npy_header(_descr(shape="[1, 4]"))),
    _npy("a shape that is a number", _npy_header(_descr(shape="4"))),
    _npy("a negative size", _npy_header(_descr(shape="(-1, -4)"))),
    _npy("a true size", _npy_header(_descr(shape="(True, 4)"))),
    _npy("a size of 2**63", _npy_header(_descr(shape=f"({2**63},)"))),
    _npy("sizes whose product overflows", _npy_header(_descr(shape=f"({2**32}, {2**32}, 4)"))),
    _npy("a zero beside what overflows",
         _npy_header(_descr(shape=f"(0, {2**39}, {2**39})"), b"")),
    _npy("100 dimensions", _npy_header(_descr(shape="(" + "1," * 100 + ")"))),
    _npy("too little data", write_npy(X)[:-1]),
    _npy("too much data", write_npy(X) + b"\0"),
    _npy("a terabyte in 128 bytes", _npy_header(_descr(shape=f"({2**38},)"))),
    _npy("another dtype", write_npy(X.astype(np.float64)), 422, "x"),
    _npy("a rank less", write_npy(X[0]), 422, "x"),
    _npy("no rows", write_npy(X[:0]), 422, "x"),
]  # fmt: skip


def _zip(*members: tuple[str, bytes], deflate: bool = False) -> bytes:
    file = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def _twice() -> bytes:
    """`zipfile` itself warns of a name given twice: the second is renamed in the bytes."""
    data = _zip(("x.npy", write_npy(X)), ("y.npy", write_npy(X)))
    return data.replace(b"y.npy", b"x.npy")


def _lying(size: int) -> bytes:
    """A member that says in both of its headers that it holds `size` bytes."""
    data = bytearray(_zip(("x.npy", write_npy(X)), deflate=True))
    central = data.index(b"PK\1\2")
    data[22:26] = data[central + 24 : central + 28] = struct.pack("<I", size)
    return bytes(data)


_NPZ = _zip(("x.npy", write_npy(X)))


def _encrypted() -> bytes:
    data = bytearray(_NPZ)
    central = data.index(b"PK\1\2")
    data[6] |= 1
    data[central + 8] |= 1
    return bytes(data)


def _npz(name: str, body: bytes, status: int = 400, about: str = "") -> Case:
    return _case(name, "application/x-npz", body, status, about)


_BOMB = _npy_header(_descr(shape=f"({50_000_000},)"), bytes(200_000_000))
NPZ = [
    _npz("nothing", b""),
    _npz("no zip", b"PK\3\4" + bytes(100)),
    _npz("an empty zip", b"PK\5\6" + bytes(18), 422),
    _npz("half a zip", _NPZ[:100]),
    _npz("200 MB in 200 KB", _zip(("x.npy", _BOMB), deflate=True), 413),
    _npz("4 GB announced", _lying(2**32 - 2), 413),
    _npz("less announced than there is", _lying(20)),
    _npz("more announced than there is", _lying(2_000_000)),
    _npz("40,000 members", _zip(*((f"{n}.npy", b"") for n in range(40_000)))),
    _npz("300 members", _zip(*((f"{n}.npy", write_npy(X)) for n in range(300)))),
    _npz("a name twice", _twice()),
    _npz("a member that is no array", _zip(("x.txt", b"x"))),
    _npz("a member of pickled objects", _zip(("x.npy", _pickled()))),
    _npz("a path that climbs out", _zip(("../../x.npy", write_npy(X))), 422),
    _npz("an absolute path", _zip(("/etc/x.npy", write_npy(X))), 422),
    _npz("a name of control characters", _zip(("\x01\x1b.npy", write_npy(X))), 422),
    _npz("a folder", _zip(("x.npy/", b""))),
    _npz("encrypted", _encrypted()),
    _npz("a checksum that is wrong", _NPZ.replace(X.tobytes(), bytes(16))),
    _npz("a zip in a zip", _zip(("x.npy", _NPZ))),
    _npz("an array more", _zip(("x.npy", write_npy(X)), ("y.npy", write_npy(X))), 422, "inputs"),
    _npz("another dtype", _zip(("x.npy", write_npy(X.astype(np.int64)))), 422, "x"),
    _npz("another shape", _zip(("x.npy", write_npy(X[:, :3]))), 422, "x"),
]  # fmt: skip
