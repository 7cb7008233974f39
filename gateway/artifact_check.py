"""What can be said of an unpacked artifact without torch: everything that is there is bounded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import orjson

from contract.errors import InvalidArtifact
from contract.function import GRAPH, HANDLER, MANIFEST, WEIGHTS, Manifest

MAX_MANIFEST_BYTES = 4 * 2**20
MAX_GRAPH_BYTES = 256 * 2**20
MAX_WEIGHTS_HEADER_BYTES = 32 * 2**20
# safetensors dtypes, https://github.com/huggingface/safetensors
_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an unpacked artifact whose parts fit together; raises InvalidArtifact."""
    manifest = Manifest.decode(_read(folder / MANIFEST, MAX_MANIFEST_BYTES))
    _json(GRAPH, _read(folder / GRAPH, MAX_GRAPH_BYTES))
    _check_weights(folder / WEIGHTS)
    if manifest.has_hooks and not (folder / HANDLER).is_file():
        raise InvalidArtifact(f"{HANDLER}: missing, though {MANIFEST} says that it has hooks")
    return manifest


def _read(path: Path, max_bytes: int) -> bytes:
    _require(path)
    if path.stat().st_size > max_bytes:
        raise InvalidArtifact(f"{path.name}: expected at most {max_bytes} bytes")
    return path.read_bytes()


def _require(path: Path) -> None:
    if not path.is_file():
        raise InvalidArtifact(f"{path.name}: missing")


def _json(name: str, data: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidArtifact(f"{name}: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise InvalidArtifact(f"{name}: expected an object")
    return record


def _check_weights(path: Path) -> None:
    """A safetensors file whose tensors lie inside it."""
    _require(path)
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if size_bytes < 8 or header_bytes > min(size_bytes - 8, MAX_WEIGHTS_HEADER_BYTES):
            raise InvalidArtifact(f"{WEIGHTS}: the header is larger than the file or than allowed")
        header = _json(WEIGHTS, file.read(header_bytes))
    data_bytes = size_bytes - 8 - header_bytes
    for name, record in header.items():
        if name != "__metadata__" and not _is_inside(record, data_bytes):
            raise InvalidArtifact(
                f"{WEIGHTS}: {name[:100]!r}: expected dtype, shape and data_offsets that agree "
                f"and lie in {data_bytes} bytes"
            )


def _is_inside(record: object, data_bytes: int) -> bool:
    if not isinstance(record, dict):
        return False
    bits = _ITEM_BITS.get(str(record.get("dtype")))
    shape, offsets = _sizes(record.get("shape")), _sizes(record.get("data_offsets"))
    if bits is None or shape is None or offsets is None or len(offsets) != 2:
        return False
    begin, end = offsets
    return end <= data_bytes and (end - begin) * 8 == math.prod(shape) * bits


def _sizes(value: object) -> list[int] | None:
    if not isinstance(value, list) or len(value) > 64:
        return None
    return value if all(type(n) is int and 0 <= n < 2**63 for n in value) else None
