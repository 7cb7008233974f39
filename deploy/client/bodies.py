"""Bodies of calls: from arrays, from payloads, or made by the caller."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from contract.errors import InvalidInput
from deploy.client.answers import JSON, MSGPACK

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from contract.tensors import Tensor

    # An array alone, for functions with one input; or arrays and nested lists by name.
    Inputs = Tensor | Mapping[str, ArrayLike]

NPY, NPZ, RAW = "application/x-npy", "application/x-npz", "application/octet-stream"
# None is a payload: JSON's null
NOTHING: Final[Any] = object()


class Body(NamedTuple):
    """The body of an invocation and its media type."""

    content_type: str
    data: bytes


def body_of(
    inputs: Inputs | None = None, payload: Any = NOTHING, content_type: str | None = None
) -> Body:
    """The body of a call with inputs or with a payload; raises InvalidInput.

    Arrays travel as they are, nested lists and other payloads as JSON. `content_type` is of a
    payload of text or bytes.
    """
    if (inputs is None) == (payload is NOTHING):
        got = "neither" if inputs is None else "both"
        raise InvalidInput.of("call", "either inputs or a payload", got)
    if payload is NOTHING:
        return _of_inputs(inputs)
    return _of_payload(payload, content_type)


def given_calls(
    inputs: Iterable[Inputs] | None, payloads: Iterable[Any] | None
) -> Iterator[tuple[Inputs | None, Any]]:
    """The inputs and the payload of each of many calls; raises InvalidInput."""
    if inputs is not None and payloads is None:
        return ((one, NOTHING) for one in inputs)
    if payloads is not None and inputs is None:
        return ((None, one) for one in payloads)
    got = "neither" if inputs is None else "both"
    raise InvalidInput.of("map", "either inputs or payloads", got)


def _of_inputs(inputs: object) -> Body:
    if _is_array(inputs):
        return Body(NPY, _npy("inputs", inputs))
    if not isinstance(inputs, Mapping):
        expected = "an array, or arrays or nested lists by name"
        raise InvalidInput.of("inputs", expected, type(inputs).__name__)
    if all(_is_array(value) for value in inputs.values()):
        return Body(MSGPACK, _packed(inputs))
    # numbers of JSON are converted to the input's dtype where nothing but precision is lost
    lists = {
        str(name): _array(f"inputs.{name}", value).tolist() if _is_array(value) else value
        for name, value in inputs.items()
    }
    return Body(JSON, _json("inputs", {"inputs": lists}))


def _of_payload(payload: Any, content_type: str | None) -> Body:
    if isinstance(payload, Body):
        return payload
    if isinstance(payload, bytes | bytearray | memoryview):
        return Body(content_type or RAW, bytes(payload))
    if isinstance(payload, str) and content_type is not None:
        return Body(content_type, payload.encode())
    if _is_array(payload):
        return Body(NPY, _npy("payload", payload))
    if isinstance(payload, Mapping) and payload and all(map(_is_array, payload.values())):
        return Body(NPZ, _npz(payload))
    return Body(content_type or JSON, _json("payload", payload))


def _is_array(value: object) -> bool:
    """Whether it is of NumPy, or says that it can become so, as tensors of PyTorch do."""
    return hasattr(value, "__array__") and not isinstance(value, type)


def _array(field: str, value: Any) -> Tensor:
    """The array, of a dtype that the platform knows; raises InvalidInput."""
    import numpy as np

    from contract.tensors import DTYPES

    array = np.asarray(value)
    if array.dtype.name not in DTYPES:
        expected = f"an array of {', '.join(DTYPES)}"
        raise InvalidInput.of(field, expected, f"one of {array.dtype}")
    return array


def _packed(inputs: Mapping[str, Any]) -> bytes:
    import msgpack

    from contract.tensors import encode_tensor

    tensors = {
        str(name): encode_tensor(_array(f"inputs.{name}", value)) for name, value in inputs.items()
    }
    packed = msgpack.packb({"inputs": tensors})
    assert isinstance(packed, bytes)
    return packed


def _npy(field: str, value: object) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, _array(field, value), allow_pickle=False)
    return file.getvalue()


def _npz(payload: Mapping[str, Any]) -> bytes:
    """A zip archive of .npy files, stored."""
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name, value in payload.items():
            members.writestr(f"{name}.npy", _npy(f"payload.{name}", value))
    return file.getvalue()


def _json(field: str, value: object) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput.of(field, "what JSON can hold, arrays or bytes", str(error)) from error
