"""Bodies of invocations: from what a client sent to what a job carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from contract.errors import InvalidInput, MalformedBody, UnsupportedMediaType
from contract.function import Manifest
from contract.job import TENSORS
from contract.tensors import (
    Tensors,
    check_names,
    decode_tensor,
    from_nested,
    pack_tensors,
    rows_of,
)
from gateway.answer import JSON
from gateway.body_checks import check_json, check_msgpack, unpack_inputs
from gateway.numpy_files import read_npy, read_npz
from gateway.preferences import MSGPACK, NPY, NPZ

_ALIASES = {"application/x-msgpack": MSGPACK, "application/vnd.msgpack": MSGPACK}
RAW = "application/octet-stream"


class Payload(NamedTuple):
    """What the job carries; `rows` is 1 where only `preprocess` will tell."""

    type: str
    data: bytes
    rows: int


def read_payload(
    manifest: Manifest, content_type: str, body: bytes, max_unpacked_bytes: int
) -> Payload:
    """The payload of a body: checked tensors, or the body itself where there is a `preprocess`.

    Raises MalformedBody, InvalidInput, UnsupportedMediaType, PayloadTooLarge.
    """
    media = content_type.partition(";")[0].strip().lower()
    media = _ALIASES.get(media, media)
    if manifest.has_preprocess:
        return _raw(media, content_type, body, max_unpacked_bytes)
    tensors = _tensors(manifest, media or JSON, body, max_unpacked_bytes)
    rows = rows_of(manifest.inputs, tensors, manifest.max_batch, manifest.rows_allowed)
    return Payload(TENSORS, pack_tensors(tensors), rows)


def _raw(media: str, content_type: str, body: bytes, max_unpacked_bytes: int) -> Payload:
    """A body that announces a type we know must be of it; all others are the function's affair."""
    if media == JSON:
        _json(body)
    elif media == MSGPACK:
        check_msgpack(body)
    elif media == NPY:
        read_npy(body)
    elif media == NPZ:
        read_npz(body, max_unpacked_bytes)
    else:
        return Payload(content_type.strip() or RAW, body, 1)
    return Payload(media, body, 1)


def _tensors(manifest: Manifest, media: str, body: bytes, max_unpacked_bytes: int) -> Tensors:
    specs = manifest.inputs
    if media == JSON:
        values = _inputs(_json(body))
        check_names(specs, values)
        check_json(body, values)
        return {spec.name: from_nested(spec, values[spec.name]) for spec in specs}
    if media == MSGPACK:
        values = _inputs(unpack_inputs(body))
        tensors = {name: decode_tensor(f"inputs.{name}", value) for name, value in values.items()}
    elif media == NPZ:
        tensors = read_npz(body, max_unpacked_bytes)
    elif media == NPY and len(specs) == 1:
        tensors = {specs[0].name: read_npy(body)}
    else:
        raise _unsupported(manifest, media)
    check_names(specs, tensors)
    for spec in specs:
        spec.check(tensors[spec.name])
    return tensors


def _unsupported(manifest: Manifest, media: str) -> UnsupportedMediaType:
    accepted = [JSON, MSGPACK, NPZ] + ([NPY] if len(manifest.inputs) == 1 else [])
    return UnsupportedMediaType(
        f"Content-Type: expected one of {', '.join(accepted)}, got {media[:200]!r}",
        accepted=accepted,
    )


def _inputs(record: object) -> Mapping[str, Any]:
    """The `inputs` of `{"inputs": {name: value}}`."""
    if not isinstance(record, dict):
        raise InvalidInput.of("body", "an object with the member inputs", _kind(record))
    unknown = [key for key in record if key != "inputs"]
    if unknown:
        raise InvalidInput.of("body", "the member inputs alone", f"a member {unknown[0]!r:.100}")
    inputs = record.get("inputs")
    if not isinstance(inputs, dict):
        raise InvalidInput.of("inputs", "an object that maps names to tensors", _kind(inputs))
    return inputs


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"body: not JSON ({error})") from error


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "true or false"}
    return "nothing" if value is None else kinds.get(type(value), f"a {type(value).__name__}")
