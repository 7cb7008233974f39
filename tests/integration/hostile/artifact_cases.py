"""Artifacts that are broken, that lie, or that would take more than they may."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tarfile
from dataclasses import replace
from typing import Any

from contract.function import Manifest
from fusion.ir import Graph
from tests.integration.hostile.harness import Case, request
from tests.unit.gateway.manifests import ECHO, MANIFEST, weights_file

PATH = "/v1/functions/hostile"
TAR = "application/x-tar"


def put(body: bytes, path: str = PATH, media: str = TAR, digest: str = "") -> bytes:
    """A request that deploys this body."""
    right = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
    return request("PUT", path, {"Content-Type": media, "Content-Digest": digest or right}, body)


def members(**changed: bytes) -> dict[str, bytes]:
    """The files of a sound artifact; `changed` by the first word of their names."""
    files = {
        "manifest": ("manifest.json", MANIFEST.encode()),
        "graph": ("graph.json", ECHO.encode()),
        "weights": ("weights.safetensors", weights_file()),
    }
    return {name: changed.get(key, data) for key, (name, data) in files.items()}


def tar(files: dict[str, bytes]) -> bytes:
    """An uncompressed tar of these files."""
    return b"".join(entry(name, data) for name, data in files.items()) + bytes(1024)


def entry(name: str, data: bytes = b"", size: int | None = None, **fields: Any) -> bytes:
    """A tar member; `size` lies about its data."""
    info = tarfile.TarInfo(name)
    info.size = len(data) if size is None else size
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def _case(name: str, body: bytes, about: str = "artifact", status: int = 422) -> Case:
    return Case(name, put(body), status, about)


SOUND = tar(members())


def _with_size(field: bytes) -> bytes:
    """A member whose size is written so; its checksum is right."""
    header = bytearray(entry("manifest.json"))
    header[124:136] = field.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _pax(record: bytes) -> bytes:
    return entry("x", record, type=tarfile.XHDTYPE)


TARS = [
    _case("nothing", b""),
    _case("a byte", b"x"),
    _case("zeros", bytes(10_240), "missing"),
    _case("zeros, megabytes of them", bytes(7_000_000), "in no file"),
    _case("noise", bytes(range(256)) * 40),
    _case("gzip", gzip.compress(SOUND)),
    _case("gzip of 500 MB of zeros", gzip.compress(bytes(500_000_000), 9)),
    _case("a zip", b"PK\3\4" + bytes(1000)),
    _case("half a tar", SOUND[: len(SOUND) // 2]),
    _case("a tar without its end", SOUND[:-1024]),
    _case("a wrong checksum", b"X" + SOUND[1:]),
    _case("a symbolic link", entry("graph.json", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    _case("a hard link", entry("graph.json", type=tarfile.LNKTYPE, linkname="../../x")),
    _case("a character device", entry("graph.json", type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
    _case("a block device", entry("graph.json", type=tarfile.BLKTYPE, devmajor=8)),
    _case("a pipe", entry("graph.json", type=tarfile.FIFOTYPE)),
    _case("a folder", entry("files/", type=tarfile.DIRTYPE)),
    _case("a sparse file", entry("graph.json", type=tarfile.GNUTYPE_SPARSE)),
    _case("a long name of 1 GB", entry("x", size=2**30, type=tarfile.GNUTYPE_LONGNAME)),
    _case("a global pax header", entry("x", type=tarfile.XGLTYPE)),
    _case("a pax header of 1 MB", _pax(b"x" * 2**20)),
    _case("a pax length that is no number", _pax(b"zz path=a\n")),
    _case("a pax length of 0", _pax(b"0 path=a\n")),
    _case("a pax length beyond its end", _pax(b"999 path=a\n")),
    _case("a pax size that is negative", _pax(b"11 size=-1\n") + entry("manifest.json")),
    _case("a pax size of a terabyte",
          _pax(b"22 size=1099511627776\n") + entry("manifest.json", b"{}")),
    _case("a pax path that climbs out", _pax(b"16 path=../../x\n") + entry("manifest.json")),
    _case("a pax path that is absolute", _pax(b"17 path=/etc/pass\n") + entry("manifest.json")),
    _case("a pax path with a NUL", _pax(b"17 path=files/\0xx\n") + entry("manifest.json")),
    _case("a pax path that is not UTF-8", _pax(b"11 path=\xff\xfe\n") + entry("manifest.json")),
    _case("a negative size in base 256", _with_size(b"\xff" * 12)),
    _case("a size of 2**88 in base 256", _with_size(b"\x80" + b"\xff" * 11)),
    _case("a size of 8 GB", entry("manifest.json", b"{}", size=8 * 2**30 - 1)),
    _case("a size that is no number", _with_size(b"xyz")),
    _case("a negative size in octal", _with_size(b"-0000000001")),
    _case("a path that climbs out", tar(members() | {"../up": b""})),
    _case("a path that climbs out of files/", tar(members() | {"files/../../up": b""})),
    _case("an absolute path", tar(members() | {"/etc/cron.d/x": b""})),
    _case("a path with a dot", tar(members() | {"files/./x": b""})),
    _case("a path with two slashes", tar(members() | {"files//x": b""})),
    _case("a path with a backslash", tar(members() | {"files/..\\x": b""})),
    _case("a path with an escape", tar(members() | {"files/\x1b[2J": b""})),
    _case("a path with a new line", tar(members() | {"files/a\nb": b""})),
    _case("a path with a right-to-left mark", tar(members() | {"files/\u202etxt": b""})),
    _case("a graph not named", tar(members() | {"graph.8.json": b"{}"}), "graph.8"),
    _case("a graph of 007 rows", tar(members() | {"graph.007.json": b"{}"})),
    _case("a graph of -1 rows", tar(members() | {"graph.-1.json": b"{}"})),
    _case("a file nobody asked for", tar(members() | {".bashrc": b""})),
    _case("a file twice", SOUND[:-1024] + SOUND),
    _case("a file as a folder", tar(members() | {"files/a": b"", "files/a/b": b""})),
    _case("a folder as a file", tar(members() | {"files/a/b": b"", "files/a": b""})),
    _case("2,000 files", tar(members() | {f"files/{n}": b"" for n in range(2_000)})),
    _case("200 folders deep", tar(members() | {"files/" + "a/" * 200 + "b": b""})),
    _case("a file longer than an artifact", entry("manifest.json", bytes(9_000_000)),
          "body", 413),
    Case("another digest", put(SOUND, digest=f"sha-256=:{'A' * 43}=:"), 400, "digest"),
    Case("no digest", put(SOUND, digest="x"), 400, "Content-Digest"),
    Case("a digest of another kind", put(SOUND, digest="md5=:AAAA:"), 400, "Content-Digest"),
    Case("a digest of 5 bytes", put(SOUND, digest="sha-256=:AAAAAAA=:"), 400, "Content-Digest"),
    Case("another type", put(SOUND, media="application/zip"), 415, "Content-Type"),
]  # fmt: skip


def _manifest(name: str, about: str, **changed: Any) -> Case:
    record = MANIFEST.as_json() | changed
    return _case(name, tar(members(manifest=json.dumps(record).encode())), about)


def _eager(name: str, about: str, handler: bytes = b"", **changed: Any) -> Case:
    """The sound artifact without its graph, and with source instead."""
    files = members()
    del files["graph.json"]
    record = MANIFEST.as_json() | {
        "is_eager": True, "architecture": hashlib.sha256(handler).hexdigest(), **changed,
    }  # fmt: skip
    files |= {"manifest.json": json.dumps(record).encode(), "handler.py": handler}
    return _case(name, tar(files), about)


def _text(name: str, text: bytes) -> Case:
    return _case(name, tar(members(manifest=text)), "manifest.json")


_X = MANIFEST.as_json()["inputs"][0]
MANIFESTS = [
    _text("nothing", b""),
    _text("a list", b"[]"),
    _text("no keys", b"{}"),
    _text("100,000 nested lists", b"[" * 100_000),
    _text("100,000 nested objects", b'{"a":' * 100_000),
    _text("a number of 10,000 digits", b'{"parameters":' + b"9" * 10_000 + b"}"),
    _text("bytes that are not UTF-8", b'{"\xff":1}'),
    _text("a manifest of 5 MB", b" " * 5_000_000),
    _manifest("eager with a graph", "graph.json", is_eager=True),
    _case(
        "eager without source",
        tar(
            {
                "manifest.json": json.dumps(MANIFEST.as_json() | {"is_eager": True}).encode(),
                "weights.safetensors": weights_file(),
            }
        ),
        "handler.py",
    ),
    _manifest("eager with row buckets", "row_buckets", is_eager=True, row_buckets=[8]),
    _eager("eager source of another digest", "architecture", architecture="a" * 64),
    _eager("eager weights of another size", "weight_bytes", weight_bytes=15),
    _manifest("eager that is a word", "is_eager", is_eager="yes"),
    _manifest("row buckets without graphs", "graph.8.json", row_buckets=[2, 8]),
    _manifest("row buckets of a graph with symbolic rows", "row_buckets", row_buckets=[8]),
    _manifest("row buckets beyond max_batch", "max_batch", row_buckets=[8, 16]),
    _manifest("row buckets backwards", "row_buckets", row_buckets=[8, 2]),
    _manifest("65,536 row buckets", "row_buckets", row_buckets=[*range(1, 65537)]),
    _manifest("an unknown key", "unknown key", **{"x" * 1000: 1}),
    _manifest("a key of half a surrogate pair", "unknown key", **{"\ud800": 1}),
    _manifest("an input of half a surrogate pair", "inputs", inputs=[_X | {"name": "\ud800"}]),
    _manifest("an input without a name", "inputs", inputs=[_X | {"name": ""}]),
    _manifest("an input of 1,000 characters", "inputs", inputs=[_X | {"name": "x" * 1_000}]),
    _manifest("an input with a new line", "inputs", inputs=[_X | {"name": "a\nb"}]),
    _manifest("an input of an unknown dtype", "inputs", inputs=[_X | {"dtype": "object"}]),
    _manifest("an input twice", "inputs", inputs=[_X, _X]),
    _manifest("no inputs", "inputs", inputs=[]),
    _manifest("inputs that are a word", "inputs", inputs="x"),
    _manifest("a negative size", "inputs", inputs=[_X | {"shape": [None, -1]}]),
    _manifest("a size of 2**62", "inputs", inputs=[_X | {"shape": [None, 2**62]}]),
    _manifest("a true size", "inputs", inputs=[_X | {"shape": [None, True]}]),
    _manifest("20 dimensions", "inputs", inputs=[_X | {"shape": [1] * 20}]),
    _manifest("a batch of 0", "max_batch", max_batch=0),
    _manifest("a batch of 10**9", "max_batch", max_batch=10**9),
    _manifest("a batch of true", "max_batch", max_batch=True),
    _manifest("a batch of NaN", "max_batch", max_batch=float("nan")),
    _manifest("a timeout of NaN", "timeout_ms", timeout_ms=float("nan")),
    _manifest("a timeout of infinity", "timeout_ms", timeout_ms=float("inf")),
    _manifest("a timeout of 0", "timeout_ms", timeout_ms=0),
    _manifest("a timeout of 10**400", "timeout_ms", timeout_ms=10**400),
    _manifest("an slo that is a word", "slo_ms", slo_ms="fast"),
    _manifest("activations of a word", "activation_bytes", activation_bytes="x"),
    _manifest("activations by a word", "activation_bytes", activation_bytes={"x": 1}),
    _manifest("negative activations", "activation_bytes", activation_bytes={"1": -1}),
    _manifest("activations at 0 rows", "activation_bytes", activation_bytes={"0": 1}),
    _manifest("hooks without a handler", "handler.py", has_preprocess=True),
    _manifest("a lie about the architecture", "architecture", architecture="b" * 64),
    _manifest("an architecture that is no digest", "architecture", architecture="x"),
    _manifest("a lie about the bytes of the weights", "weight_bytes", weight_bytes=17),
    _manifest("a lie about an input's shape", "inputs", inputs=[_X | {"shape": [None, 5]}]),
    _manifest("a lie about an input's dtype", "inputs", inputs=[_X | {"dtype": "int64"}]),
    _manifest("a lie about an input's name", "inputs", inputs=[_X | {"name": "y"}]),
    _manifest("a lie about an output's shape", "outputs", outputs=[_X | {"shape": [None, 5]}]),
]


def _graph(name: str, graph: bytes, about: str = "graph") -> Case:
    return _case(name, tar(members(graph=graph)), about)


def _nodes(*nodes: Any, **changed: Any) -> bytes:
    plain = json.loads(ECHO.encode())
    output = [*plain["outputs"][0][:3], {"node": max(len(nodes) - 1, 0)}]
    return json.dumps(plain | {"nodes": nodes, "outputs": [output]} | changed).encode()


I0: dict[str, Any] = {"input": 0}
W0: dict[str, Any] = {"weight": 0}
HUGE = 10**12


def _node(name: str, about: str, *node: Any) -> Case:
    return _graph(name, _nodes(list(node)), about)


GRAPHS = [
    _graph("nothing", b""),
    _graph("a list", b"[]"),
    _graph("bytes", bytes(range(256))),
    _graph("7 MB of brackets", b"[" * 7_000_000),
    _graph("3 MB of lists", b"[" + b"[]," * 1_000_000 + b"[]]"),
    _graph("a million nodes", b'{"nodes":[' + b"[]," * 1_000_000 + b"[]]}"),
    _graph("60,000 nodes", _nodes(*[["relu", [I0]]] * 60_000), "nodes"),
    _graph("another format", _nodes(["relu", [I0]], format=2), "format"),
    _graph("a format of 10,000 digits", b'{"format":' + b"1" * 10_000 + b"}"),
    _node("an unknown operator", "nodes[0].operator", "os.system", ["true"]),
    _node("an operator of the process", "nodes[0].operator", "__import__", ["os"]),
    _node("an operator that writes", "nodes[0].operator", "relu_", [I0]),
    _node("an operator that is code", "nodes[0].operator", "relu(x0); import os #", [I0]),
    _node("an operator of 100,000 characters", "nodes[0].operator", "x" * 100_000, [I0]),
    _node("a random operator", "nodes[0].dropout", "dropout", [I0, 0.5, True]),
    _node("a keyword that is code", "nodes[0].kwargs", "relu", [I0], {"x=__import__('os')": 1}),
    _node("a string that is code", "approximate", "gelu", [I0], {"approximate": "');import os"}),
    _node("a cycle", "nodes[0]", "relu", [{"node": 0}]),
    _graph("a cycle of two", _nodes(["relu", [{"node": 1}]], ["relu", [{"node": 0}]]), "nodes[0]"),
    _node("a negative index", "nodes[0]", "relu", [{"input": -1}]),
    _node("an index of 2**70", "nodes[0]", "relu", [{"input": 2**70}]),
    _node("a weight that is not there", "nodes[0]", "relu", [{"weight": 9}]),
    _node("a result that is not there", "nodes[0]", "relu", [{"input": [0, 5]}]),
    _node("an unknown mark", "mark", "relu", [{"file": "/etc/passwd"}]),
    _node("a literal of 2**64", "64 bits", "add.Scalar", [I0, 2**64]),
    _node("a literal of 1e999", "Infinity", "add.Scalar", [I0, float("inf")]),
    _node("a literal of NaN", "NaN", "add.Scalar", [I0, float("nan")]),
    _node("deeply nested arguments", "nested", "expand", [I0, [[[[[1]]]]]]),
    _node("5,000 results", "outputs", "chunk", [I0, 5_000], {}, 5_000),
    _node("zeros of 10**12", "nodes[0]", "zeros", [[HUGE]]),
    _node("zeros of 10**6 times 10**6", "nodes[0]", "zeros", [[10**6, 10**6]]),
    _node("zeros of what overflows", "nodes[0]", "zeros", [[2**62, 4]]),
    _node("zeros of a negative size", "nodes[0]", "zeros", [[-5]]),
    _node("ones of 10**12", "nodes[0]", "ones", [[HUGE]]),
    _node("full of 10**12", "nodes[0]", "full", [[HUGE], 1.0]),
    _node("new_full of 10**12", "nodes[0]", "new_full", [I0, [HUGE], 1.0]),
    _node("eye of 10**7", "nodes[0]", "eye", [10**7]),
    _node("arange to 10**12", "nodes[0]", "arange", [HUGE]),
    _node("arange in steps of 10**-9", "nodes[0]", "arange.start_step", [0, 10**6, 1e-9]),
    _node("linspace of 10**12 steps", "nodes[0]", "linspace", [0, 1, HUGE]),
    _node("expand to 10**12", "nodes[0]", "expand", [I0, [HUGE, 4]]),
    _node("broadcast_to 10**12", "nodes[0]", "broadcast_to", [I0, [HUGE, 4]]),
    _node("repeat 10**12 times", "nodes[0]", "repeat", [I0, [HUGE, 1]]),
    _node("repeat 10**6 times 10**6 times", "nodes[0]", "repeat", [I0, [10**6, 10**6]]),
    _node("tile 10**12 times", "nodes[0]", "tile", [I0, [HUGE]]),
    _node("repeat_interleave 10**12 times", "nodes[0]", "repeat_interleave.self_int", [I0, HUGE]),
    _node("pad by 10**12", "nodes[0]", "constant_pad_nd", [I0, [0, HUGE]]),
    _node("pad, the other way", "nodes[0]", "pad", [I0, [HUGE, 0]]),
    _node("upsample to 10**6 squared", "nodes[0]", "upsample_nearest2d", [I0, [10**6, 10**6]]),
    _node("upsample by 10**12", "nodes[0]", "upsample_nearest2d.vec", [I0, None, [1e6, 1e6]]),
    _node("one_hot of 10**12 classes", "nodes[0]", "one_hot", [I0, HUGE]),
    _node("pool to 10**6 squared", "nodes[0]", "adaptive_avg_pool2d", [I0, [10**6, 10**6]]),
    _node("an equation of 10,000 letters", "equation", "einsum", ["a" * 10_000, [I0]]),
    _graph("an input of 2**50", _nodes(["relu", [I0]], inputs=[["x", "float32", [None, 2**50]]]),
           "inputs[0].shape"),
    _graph("an input that overflows",
           _nodes(["relu", [I0]], inputs=[["x", "float32", [None, 2**32, 2**32]]]),
           "inputs[0].shape"),
    _graph("a weight that overflows",
           _nodes(["relu", [I0]], weights=[["w", "float32", [2**32, 2**32]]]), "weights[0].shape"),
    _graph("a weight of another shape",
           _nodes(["relu", [I0]], weights=[["w", "float32", [5]]]), "w"),
    _graph("a weight of another dtype",
           _nodes(["relu", [I0]], weights=[["w", "float64", [4]]]), "w"),
    _graph("a weight that the file lacks",
           _nodes(["relu", [I0]], weights=[["v", "float32", [4]]]), "v"),
    _graph("a lie about the batch", _nodes(["relu", [I0]], batchable=False), "manifest.json"),
    _graph("a lie about the rows", _nodes(["relu", [I0]], fixed_rows=3), "manifest.json"),
]  # fmt: skip


def _weights(name: str, data: bytes, about: str = "weights.safetensors") -> Case:
    return _case(name, tar(members(weights=data)), about)


def _header(name: str, field: Any, about: str = "w", data: bytes = bytes(16)) -> Case:
    digest = hashlib.sha256(data).hexdigest()
    return _weights(
        name, weights_file({"__metadata__": {"sha256.w": digest}, "w": field}, data), about
    )


def _field(**changed: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changed


_TWO = {
    "__metadata__": {"sha256.w": hashlib.sha256(bytes(16)).hexdigest(),
                     "sha256.v": hashlib.sha256(bytes(16)).hexdigest()},
    "w": _field(),
}  # fmt: skip
_GOOD = weights_file()
WEIGHTS = [
    _weights("nothing", b""),
    _weights("7 bytes", b"1234567"),
    _weights("a header of 2**64", b"\xff" * 8),
    _weights("a header longer than the file", (10**6).to_bytes(8, "little") + b"{}"),
    _weights("a header of 7 MB", (7_000_000).to_bytes(8, "little") + b"{" * 7_000_000),
    _weights("a header that is no JSON", (4088).to_bytes(8, "little") + b"x" * 4088),
    _weights("a header that is a list", (4088).to_bytes(8, "little") + b"[]".ljust(4088)),
    _weights("a header of 4,000 brackets", (4088).to_bytes(8, "little") + b'{"a":' + b"[" * 4083),
    _weights("a tensor cut off", _GOOD[:-1]),
    _weights("all tensors cut off", _GOOD[:-16]),
    _weights("bytes behind the tensors", _GOOD + b"x"),
    _weights("another tensor's digest", _GOOD[:-1] + b"x", "sha256"),
    _weights("a pickle", b"\x80\x04cposix\nsystem\n(S'true'\ntR.".ljust(9000)),
    _weights("a torch file", b"PK\3\4".ljust(9000)),
    _weights("overlapping tensors", weights_file(_TWO | {"v": _field()}), "overlaps"),
    _weights("a hole between tensors",
             weights_file(_TWO | {"v": _field(data_offsets=[64, 80])}, bytes(80)), "hole"),
    _weights("a tensor twice", _GOOD.replace(b'"w":{', b'"w":{"dtype":"F32"},"w":{').replace(
        b" " * 20, b"", 1)[: len(_GOOD)]),
    _weights("no digests", weights_file({"w": _field()})),
    _weights("a digest that is no digest",
             weights_file({"__metadata__": {"sha256.w": "x"}, "w": _field()})),
    _header("offsets outside", _field(data_offsets=[0, 2**40], shape=[2**38])),
    _header("offsets backwards", _field(data_offsets=[16, 0])),
    _header("negative offsets", _field(data_offsets=[-16, 0])),
    _header("offsets of 2**64", _field(data_offsets=[0, 2**64])),
    _header("one offset", _field(data_offsets=[0])),
    _header("offsets of fractions", _field(data_offsets=[0.0, 16.0])),
    _header("offsets that are words", _field(data_offsets="0 16")),
    _header("a shape that is too large", _field(shape=[5])),
    _header("a shape that overflows", _field(shape=[2**32, 2**32])),
    _header("a shape that overflows to 4", _field(shape=[2**62, 2, 2, 4])),
    _header("a zero beside what overflows", _field(shape=[0, 2**62, 2**62])),
    _header("a negative shape", _field(shape=[-4])),
    _header("a true shape", _field(shape=[True, 4])),
    _header("1,000 dimensions", _field(shape=[1] * 1000)),
    _header("an unknown dtype", _field(dtype="O")),
    _header("a dtype that is a list", _field(dtype=["F32"])),
    _header("a member more", _field(extra=1)),
    _header("a field that is a list", []),
]  # fmt: skip


def artifact(graph: Graph, weights: bytes, data_bytes: int, **changed: Any) -> bytes:
    """A tar whose manifest tells the truth about this graph and these weights."""
    specs = {
        "inputs": tuple(spec for spec in graph.inputs),
        "outputs": tuple(output.spec for output in graph.outputs),
    }
    manifest: Manifest = replace(
        MANIFEST,
        architecture=graph.architecture,
        weight_bytes=data_bytes,
        **{key: tuple(type(MANIFEST.inputs[0])(*spec) for spec in value)
           for key, value in specs.items()},
        **changed,
    )  # fmt: skip
    return tar(members(manifest=manifest.encode(), graph=graph.encode(), weights=weights))
