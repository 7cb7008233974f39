"""What is fuzzed: from any bytes comes an error of ours, or a value that is written and read equal.

A target takes bytes and returns; whatever else it raises is a finding.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping

import orjson

from contract.errors import FuseboxError, RequestError
from contract.function import Function, Manifest
from contract.tensors import Tensor, Tensors, pack_tensors, unpack_tensors
from fusion.errors import FusionError
from fusion.index_ranges import index_ranges
from fusion.ir import Graph
from fusion.weights_header import Extent, parse_header
from gateway.bodies import read_payload
from gateway.numpy_files import read_npy, read_npz, write_npy, write_npz
from gateway.preferences import MSGPACK, NPY, NPZ
from gateway.tar import TarError, members
from gateway.v2.payloads import payload_of
from gateway.v2.request import parse
from tests.unit.gateway.manifests import MANIFEST

LIMIT_BYTES = 2**20
ECHO_FUNCTION = Function("echo", 1, "b" * 64, 0.0, MANIFEST)
MAX_DETAIL_CHARS = 2_000
MEDIA = ("application/json", MSGPACK, NPY, NPZ)


def archive(data: bytes) -> None:
    """The tar of an artifact."""
    try:
        files = _files(data)
    except TarError:
        return
    assert files == _files(_tar(files))


def _files(data: bytes) -> list[tuple[str, bytes]]:
    return [(m.name, b"".join(m.chunks)) for m in members(io.BytesIO(data).read)]


def _tar(files: list[tuple[str, bytes]]) -> bytes:
    """Each name in a pax record: `tarfile` does not write every name as it is given."""
    parts = [
        _entry(tarfile.XHDTYPE, _path_record(name)) + _entry(tarfile.REGTYPE, data)
        for name, data in files
    ]
    return b"".join(parts) + bytes(1024)


def _entry(kind: bytes, data: bytes) -> bytes:
    info = tarfile.TarInfo()
    info.type, info.size = kind, len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def _path_record(name: str) -> bytes:
    text = f" path={name}\n".encode()
    length = len(text) + 1
    while len(text) + len(str(length)) != length:
        length += 1
    return str(length).encode() + text


def manifest(data: bytes) -> None:
    """manifest.json."""
    try:
        found = Manifest.decode(data)
    except FuseboxError:
        return
    assert found == Manifest.decode(found.encode())
    assert orjson.dumps(found.as_json())


def graph(data: bytes) -> None:
    """graph.json."""
    try:
        found = Graph.decode(data)
    except FusionError:
        return
    again = Graph.decode(found.encode())
    assert found.architecture == again.architecture
    assert found.encode() == again.encode()
    assert index_ranges(found) == index_ranges(again)


def weights(data: bytes) -> None:
    """The header of weights.safetensors; its first two bytes say how much data follows it."""
    data_bytes, encoded = int.from_bytes(data[:2], "little"), data[2:]
    try:
        extents, digests = parse_header(encoded, data_bytes)
    except FusionError:
        return
    header: dict[str, object] = {extent.name: _field(extent) for extent in extents}
    header["__metadata__"] = {f"sha256.{name}": digest for name, digest in digests.items()}
    assert (extents, digests) == parse_header(orjson.dumps(header), data_bytes)


def _field(extent: Extent) -> dict[str, object]:
    offsets = [extent.begin, extent.end]
    return {"dtype": extent.tag, "shape": list(extent.shape), "data_offsets": offsets}


def packed(data: bytes) -> None:
    """Tensors as jobs carry them."""
    try:
        found = unpack_tensors(data)
    except FuseboxError:
        return
    _expect_equal(found, unpack_tensors(pack_tensors(found)))


def npy(data: bytes) -> None:
    """A .npy file."""
    try:
        found = read_npy(data)
    except FuseboxError:
        return
    _expect_equal({"": found}, {"": read_npy(write_npy(found))})


def npz(data: bytes) -> None:
    """A .npz file."""
    try:
        found = read_npz(data, LIMIT_BYTES)
    except FuseboxError:
        return
    assert sum(tensor.nbytes for tensor in found.values()) <= LIMIT_BYTES
    _expect_equal(found, read_npz(write_npz(found), 2 * LIMIT_BYTES))


def body(data: bytes) -> None:
    """The body of an invocation; its first byte says which type it announces."""
    media = MEDIA[data[0] % len(MEDIA)] if data else ""
    try:
        payload = read_payload(MANIFEST, media, data[1:], LIMIT_BYTES)
    except RequestError as error:
        if len(error.detail) > MAX_DETAIL_CHARS:
            raise AssertionError("the refusal repeats what was sent") from error
        return
    tensors = unpack_tensors(payload.data)
    for spec in MANIFEST.inputs:
        spec.check(tensors[spec.name])
    assert 1 <= payload.rows <= MANIFEST.max_batch


def v2(data: bytes) -> None:
    """A V2 inference request: the length of its JSON, or nothing; a line's end; its body."""
    length, _, sent = data.partition(b"\n")
    try:
        request = parse(sent, length.decode("latin-1") or None)
        payload = payload_of(ECHO_FUNCTION, request, LIMIT_BYTES)
    except RequestError as error:
        if len(error.detail) > MAX_DETAIL_CHARS:
            raise AssertionError("the refusal repeats what was sent") from error
        return
    tensors = unpack_tensors(payload.data)
    for spec in MANIFEST.inputs:
        spec.check(tensors[spec.name])


def _expect_equal(expected: Tensors, actual: Tensors) -> None:
    assert {name: _plain(tensor) for name, tensor in expected.items()} == {
        name: _plain(tensor) for name, tensor in actual.items()
    }


def _plain(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    # bytes, for NaN is not equal to itself; little-endian, as the wire has it
    return tensor.dtype.name, tensor.shape, tensor.astype(tensor.dtype.newbyteorder("<")).tobytes()


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (archive, manifest, graph, weights, packed, npy, npz, body, v2)
}
