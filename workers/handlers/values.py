"""What crosses between a function's hooks and the platform, converted inside the handler host."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np
import orjson

from contract.errors import InvalidInput, MalformedBody
from contract.tensors import (
    Tensor,
    TensorSpec,
    check_names,
    decode_tensor,
    encode_tensor,
    from_nested,
)

JSON = "application/json"
MSGPACK = "application/msgpack"
NPY = ("application/x-npy", "application/npy")
NPZ = ("application/x-npz", "application/npz")
_TENSOR_KEYS = {"dtype", "shape", "data"}


def decode_payload(media_type: str, payload: bytes, limit_bytes: int) -> Any:
    """The payload as `preprocess` takes it; raises MalformedBody.

    A compressed archive may hold `limit_bytes` at most. Types that are not known stay bytes.
    """
    kind = media_type.partition(";")[0].strip().lower()
    try:
        if kind == JSON:
            return orjson.loads(payload)
        if kind == MSGPACK:
            return msgpack.unpackb(payload, object_hook=_tensor_or_map, strict_map_key=False)
        if kind in NPY:
            return np.load(io.BytesIO(payload), allow_pickle=False)
        if kind in NPZ:
            return _load_npz(payload, limit_bytes)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, msgpack.UnpackException) as error:
        raise MalformedBody(f"body: not {kind} ({_line(error)})") from error
    return payload


def encode_inputs(specs: Sequence[TensorSpec], returned: Any) -> dict[str, Any]:
    """What `preprocess` returned, as named tensors; raises InvalidInput naming the field."""
    if not isinstance(returned, Mapping):
        want = "a dict from input names to tensors"
        raise InvalidInput.of("preprocess", want, type(returned).__name__)
    check_names(tuple(specs), returned)
    return {spec.name: encode_tensor(_as_tensor(spec, returned[spec.name])) for spec in specs}


def encode_result(returned: Any) -> bytes:
    """What `postprocess` returned, as JSON; raises TypeError for what JSON cannot hold."""
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(returned, default=_plain, option=option)


def _tensor_or_map(record: dict[Any, Any]) -> Any:
    return decode_tensor("body", record) if record.keys() == _TENSOR_KEYS else record


def _load_npz(payload: bytes, limit_bytes: int) -> dict[str, Tensor]:
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        # what an archive says of its sizes is enforced while it is read
        size_bytes = sum(member.file_size for member in archive.infolist())
    if size_bytes > limit_bytes:
        raise ValueError(f"holds {size_bytes} bytes, at most {limit_bytes} are read")
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise TypeError("a single array")
        return {name: arrays[name] for name in arrays.files}


def _as_tensor(spec: TensorSpec, value: Any) -> Tensor:
    # a torch tensor is known by what it can do: torch itself is not imported here
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype.name == spec.dtype:
        spec.check(value)
        return value
    return from_nested(spec, value)


def _plain(value: Any) -> Any:
    if hasattr(value, "detach") and hasattr(value, "tolist"):
        return value.detach().tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
