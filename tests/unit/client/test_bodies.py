"""What programs give becomes a body, of the type that keeps it exact."""

from __future__ import annotations

import io
import json
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from contract.errors import InvalidInput
from contract.tensors import DTYPES, decode_tensor
from deploy.client import Body
from deploy.client.bodies import NOTHING, body_of, given_calls

X = np.arange(4, dtype=np.float32).reshape(1, 4)
any_array = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, max_side=3))
)


@given(st.dictionaries(st.text(max_size=5), any_array, max_size=3))
def test_arrays_by_name_travel_exactly(tensors: dict[str, Any]) -> None:
    """As msgpack, bit by bit."""
    body = body_of(tensors)
    assert body.content_type == "application/msgpack"
    sent = msgpack.unpackb(body.data)["inputs"]
    assert set(sent) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(decode_tensor(name, sent[name]), tensor, strict=True)


@given(any_array)
def test_an_array_alone_travels_exactly(tensor: Any) -> None:
    """As .npy, for functions with one input; strides and byte order do not matter."""
    for made in (tensor, tensor.T, tensor.astype(tensor.dtype.newbyteorder(">"))):
        body = body_of(made)
        assert body.content_type == "application/x-npy"
        np.testing.assert_array_equal(np.load(io.BytesIO(body.data)), made)


def test_tensors_of_pytorch_are_arrays() -> None:
    """Without an import of it."""
    assert body_of({"x": torch.from_numpy(X)}) == body_of({"x": X})


def test_nested_lists_travel_as_json() -> None:
    """The platform converts their numbers; arrays beside them go along."""
    body = body_of({"x": [[1, 2]], "y": np.float32([0.1])})
    assert body.content_type == "application/json"
    assert json.loads(body.data)["inputs"]["x"] == [[1, 2]]
    assert np.float32(json.loads(body.data)["inputs"]["y"][0]) == np.float32(0.1)


@pytest.mark.parametrize(
    ("payload", "content_type", "expected"),
    [
        ({"a": [1]}, None, Body("application/json", b'{"a": [1]}')),
        (None, None, Body("application/json", b"null")),
        ("text", None, Body("application/json", b'"text"')),
        ("text", "text/plain", Body("text/plain", b"text")),
        (b"raw", None, Body("application/octet-stream", b"raw")),
        (bytearray(b"raw"), "image/png", Body("image/png", b"raw")),
        (Body("a/b", b"c"), None, Body("a/b", b"c")),
    ],
)
def test_a_payload_is_what_a_preprocess_takes(
    payload: object, content_type: str | None, expected: Body
) -> None:
    """JSON unless it is bytes, or a type is named."""
    assert expected == body_of(payload=payload, content_type=content_type)


def test_arrays_in_a_payload_travel_as_numpy_files() -> None:
    """A `preprocess` gets an array, or a dict of arrays."""
    assert body_of(payload=X).content_type == "application/x-npy"
    body = body_of(payload={"a": X, "b": X + 1})
    assert body.content_type == "application/x-npz"
    with np.load(io.BytesIO(body.data)) as sent:
        np.testing.assert_array_equal(sent["b"], X + 1, strict=True)


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        ({}, "call: expected either inputs or a payload, got neither"),
        ({"inputs": X, "payload": 1}, "got both"),
        ({"inputs": [[1]]}, "inputs: expected an array, or arrays or nested lists by name"),
        ({"inputs": {"x": np.array(["a"])}}, "inputs.x: expected an array of bool, uint8"),
        ({"inputs": {"x": np.array([object()])}}, "inputs.x"),
        ({"inputs": {"x": [float("nan")]}}, "inputs: expected what JSON can hold"),
        ({"payload": object()}, "payload: expected what JSON can hold"),
        ({"payload": {1: {2, 3}}}, "payload"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(given_: dict[str, Any], field: str) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidInput) as caught:
        body_of(**given_)
    assert field in caught.value.detail


def test_many_calls_are_of_inputs_or_of_payloads() -> None:
    """Taken one by one."""
    taken = []

    def items() -> Any:
        for number in range(3):
            taken.append(number)
            yield number

    calls = given_calls(None, items())
    assert (next(calls), taken) == ((None, 0), [0])
    assert next(given_calls([X], None))[1] is NOTHING
    for wrong in ((None, None), ([], [])):
        with pytest.raises(InvalidInput, match="map: expected either inputs or payloads"):
            given_calls(*wrong)
