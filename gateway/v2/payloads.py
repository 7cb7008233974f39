"""From a request to what its job carries, for the version that its model means at that moment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from contract.errors import RequestError
from contract.function import Function
from contract.job import TENSORS
from contract.tensors import Tensor, Tensors, encode_tensor, pack_tensors, rows_of
from gateway.answer import JSON
from gateway.bodies import Payload, read_payload
from gateway.preferences import MSGPACK
from gateway.v2.datatypes import BYTES, ITEM_BYTES, Elements, from_wire, shaped
from gateway.v2.models import PAYLOAD, VARIABLE, ModelTensor, inputs, outputs
from gateway.v2.request import InferRequest, Input, RawRequest

CONTENT_TYPE = "content_type"
MAX_SHOWN_CHARS = 500
# what a `preprocess` cannot be given as it is, and what holds all of its values
_WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}


def payload_of(
    function: Function, request: InferRequest | RawRequest, max_unpacked_bytes: int
) -> Payload:
    """The payload; raises RequestError and its children where request and model differ."""
    given = _raw(function, request) if isinstance(request, RawRequest) else request
    _check_outputs(function, given)
    if function.manifest.has_preprocess:
        return _for_preprocess(function, given, max_unpacked_bytes)
    tensors = _tensors(function, given.inputs)
    manifest = function.manifest
    rows = rows_of(manifest.inputs, tensors, manifest.max_batch, manifest.rows_allowed)
    return Payload(TENSORS, pack_tensors(tensors), rows)


def _check_outputs(function: Function, request: InferRequest) -> None:
    if not request.outputs:
        return
    known = {tensor.name for tensor in outputs(function.manifest)}
    for wanted in request.outputs:
        if wanted.name not in known:
            raise RequestError(
                f"unexpected inference output '{wanted.name}' for model '{function.name}'"
            )


def _raw(function: Function, request: RawRequest) -> InferRequest:
    """A request of the bytes alone: for the one input, as a batch of 1, with binary outputs."""
    model = inputs(function.manifest)
    if len(model) != 1:
        raise RequestError(
            f"Raw request must only have 1 input (found 1) to be deduced but got {len(model)} "
            f"inputs in '{function.name}' model configuration"
        )
    [tensor] = model
    if tensor.datatype == BYTES:
        value: Tensor | Elements = [bytes(request.data)]
        shape: tuple[int, ...] = (1,)
    else:
        shape = _raw_shape(tensor, len(request.data))
        value = from_wire(tensor.name, tensor.datatype, shape, request.data)
    given = Input(tensor.name, tensor.datatype, shape, value, {})
    return InferRequest("", {}, (given,), (), is_binary=True)


def _raw_shape(tensor: ModelTensor, size_bytes: int) -> tuple[int, ...]:
    """The shape that so many bytes have: one row, and what is left over for a size that varies."""
    sizes = [1 if i == 0 and n == VARIABLE else n for i, n in enumerate(tensor.shape)]
    if sizes.count(VARIABLE) > 1:
        raise RequestError(
            f"The shape of the raw input '{tensor.name}' can not be deduced because there are more "
            "than one variable-sized dimension"
        )
    rest_bytes = math.prod(n for n in sizes if n != VARIABLE) * ITEM_BYTES[tensor.datatype]
    left = size_bytes // rest_bytes if rest_bytes else 0
    return tuple(left if n == VARIABLE else n for n in sizes)


def _tensors(function: Function, given: Sequence[Input]) -> Tensors:
    """The tensors as the manifest has them; said in the words of Triton where they are not."""
    model, manifest = f"model '{function.name}'", function.manifest
    expected = {tensor.name: tensor for tensor in inputs(manifest)}
    for each in given:
        if each.name not in expected:
            raise RequestError(f"unexpected inference input '{each.name}' for {model}")
    if len(given) != len(expected):
        names = [each.name for each in given]
        missing = [name for name in expected if name not in names]
        raise RequestError(
            f"expected {len(expected)} inputs but got {len(given)} inputs for {model}. "
            f"Got input(s) {_shown(names)}, but missing required input(s) {_shown(missing)}. "
            "Please provide all required input(s)."
        )
    found: Tensors = {}
    for each in given:
        _check(each, expected[each.name], function)
        assert isinstance(each.value, np.ndarray)
        found[each.name] = each.value
    return found


def _shown(names: list[str]) -> str:
    """Names as Triton lists them; a request may bring many long ones."""
    text = str(names)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def _check(given: Input, expected: ModelTensor, function: Function) -> None:
    if given.datatype != expected.datatype:
        raise RequestError(
            f"inference input '{given.name}' data-type is '{given.datatype}', but model "
            f"'{function.name}' expects '{expected.datatype}'"
        )
    if len(given.shape) != len(expected.shape) or any(
        want not in (VARIABLE, got) for want, got in zip(expected.shape, given.shape, strict=True)
    ):
        want, got = list(expected.shape), list(given.shape)
        raise RequestError(
            f"unexpected shape for input '{given.name}' for model '{function.name}'. "
            f"Expected {want}, got {got}"
        )
    most = function.manifest.max_batch
    if expected.shape[:1] == (VARIABLE,) and given.shape[0] > most:
        raise RequestError(f"inference request batch-size must be <= {most} for '{function.name}'")


def _for_preprocess(function: Function, request: InferRequest, max_unpacked_bytes: int) -> Payload:
    """One BYTES input PAYLOAD is the body of a call; all else its `preprocess` gets by name."""
    if not request.inputs:
        raise RequestError(
            f"expected 1 inputs but got 0 inputs for model '{function.name}'. Got input(s) [], "
            f"but missing required input(s) ['{PAYLOAD}']. Please provide all required input(s)."
        )
    first = request.inputs[0]
    if [each.name for each in request.inputs] != [PAYLOAD] or first.datatype != BYTES:
        values = {each.name: _value(each) for each in request.inputs}
        packed = msgpack.packb(values)
        assert isinstance(packed, bytes)
        return Payload(MSGPACK, packed, 1)
    if math.prod(first.shape) != 1:
        raise RequestError(
            f"unexpected shape for input '{PAYLOAD}' for model '{function.name}'. "
            f"Expected [1], got {list(first.shape)}"
        )
    media = first.parameters.get(CONTENT_TYPE, JSON)
    if not isinstance(media, str) or not media.isascii() or not media.isprintable():
        raise RequestError(f"input '{PAYLOAD}': parameter {CONTENT_TYPE}: expected a media type")
    (body,) = first.value
    return read_payload(function.manifest, media, body, max_unpacked_bytes)


def _value(given: Input) -> Any:
    """A tensor as `preprocess` gets it: an array, or nested lists of text (bytes if no UTF-8)."""
    if isinstance(given.value, np.ndarray):
        return _array(given)
    elements = [_text(each) for each in given.value]
    # an empty shape is a single element
    return shaped(given.name, np.array(elements, dtype=object), given.shape).tolist()


def _array(given: Input) -> Mapping[str, Any]:
    tensor = given.value
    assert isinstance(tensor, np.ndarray)
    wider = _WIDER.get(tensor.dtype.name)
    if wider is None:
        return encode_tensor(tensor)
    if tensor.size and tensor.max() > np.iinfo(wider).max:
        raise RequestError(f"input '{given.name}': expected values below {2**63} for {wider}")
    return encode_tensor(tensor.astype(wider))


def _text(element: bytes) -> str | bytes:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return element
