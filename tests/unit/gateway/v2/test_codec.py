"""Tensors of the V2 protocol: what is written is read again, and what lies is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract.errors import MalformedBody, RequestError
from contract.tensors import Tensor
from gateway.v2.datatypes import DTYPES, from_json, from_wire, to_wire
from gateway.v2.request import InferRequest, RawRequest, parse

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
STRINGS = st.lists(st.binary(max_size=20), max_size=8)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, Tensor]:
    """A datatype and a tensor of it, finite."""
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    dtype = np.dtype(DTYPES[datatype])
    options = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    elements = hnp.from_dtype(dtype, **options)  # type: ignore[arg-type]  # by kind
    return datatype, draw(hnp.arrays(dtype, SHAPES, elements=elements))


def message(inputs: list[dict[str, Any]], binary: bytes = b"", **more: Any) -> tuple[bytes, str]:
    """A body with its header."""
    head = orjson.dumps({"inputs": inputs, **more})
    return head + binary, str(len(head))


def described(name: str, datatype: str, shape: list[int], size: Any = None) -> dict[str, Any]:
    """An input; binary where it has a size."""
    record: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    return record | ({} if size is None else {"parameters": {"binary_data_size": size}})


@given(tensors())
def test_every_datatype_survives_the_wire(found: tuple[str, Tensor]) -> None:
    """Bytes of each tensor are read as the same tensor."""
    datatype, tensor = found
    data = to_wire(datatype, tensor)
    again = from_wire("x", datatype, tensor.shape, memoryview(data))
    np.testing.assert_array_equal(tensor, again)
    assert to_wire(datatype, again) == data


@given(tensors(), st.booleans())
def test_every_datatype_survives_json_nested_and_flat(
    found: tuple[str, Tensor], is_flat: bool
) -> None:
    """Both forms are the same tensor, exactly."""
    datatype, tensor = found
    values = tensor.reshape(-1).tolist() if is_flat or not tensor.ndim else tensor.tolist()
    sent = orjson.loads(orjson.dumps(values))
    again = from_json("x", datatype, tensor.shape, sent)
    assert isinstance(again, np.ndarray)
    np.testing.assert_array_equal(tensor, again)
    assert again.dtype == tensor.dtype


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=8))
def test_bf16_is_the_upper_half_of_a_float32(values: list[float]) -> None:
    """Written with its lower half dropped, as clients do; read without a loss."""
    tensor = np.array(values, dtype=np.float32)
    data = to_wire("BF16", tensor)
    again = from_wire("x", "BF16", tensor.shape, memoryview(data))
    expected = (tensor.view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(expected, again)
    assert to_wire("BF16", again) == data


@given(STRINGS)
def test_bytes_survive_the_wire(elements: list[bytes]) -> None:
    """Each element with its length in front."""
    data = to_wire("BYTES", elements)
    assert elements == from_wire("x", "BYTES", [len(elements)], memoryview(data))


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6))
def test_text_is_bytes_in_json(words: list[str]) -> None:
    """UTF-8, nested or flat."""
    expected = [word.encode() for word in words]
    assert expected == from_json("x", "BYTES", [len(words)], words)
    assert expected == from_json("x", "BYTES", [len(words), 1], [[word] for word in words])


@given(tensors(), st.integers(-9, 9).filter(bool))
def test_bytes_that_are_too_few_or_too_many_are_refused(
    found: tuple[str, Tensor], difference: int
) -> None:
    """The shape says how many there are."""
    datatype, tensor = found
    data = to_wire(datatype, tensor)
    wrong = data + bytes(difference) if difference > 0 else data[:difference]
    if len(wrong) != len(data):
        with pytest.raises(RequestError, match="unexpected size for input 'x'"):
            from_wire("x", datatype, tensor.shape, memoryview(wrong))


@given(STRINGS, st.binary(max_size=40), st.integers(0, 9))
def test_lengths_of_strings_that_lie_are_refused_or_true(
    elements: list[bytes], noise: bytes, count: int
) -> None:
    """Any bytes are elements that are written as these bytes, or an error of the request."""
    data = to_wire("BYTES", elements)[: len(noise)] + noise
    try:
        found = from_wire("x", "BYTES", [count], memoryview(data))
    except RequestError:
        return
    assert len(found) == count
    assert to_wire("BYTES", found) == data


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", ["1", 2]),
        ("FP32", [True, 2.0]),
        ("FP32", [None, 1.0]),
        ("FP32", [{}, 1.0]),
        ("FP32", [[1.0], 2.0]),
        ("FP32", [1.0, [2.0]]),
        ("FP32", [[1.0], [2.0, 3.0]]),
        ("FP32", 7.0),
        ("FP16", [1e6, 1]),
        ("INT8", [1, 128]),
        ("INT32", [1.0, 2]),
        ("INT64", [1, 2**63]),
        ("UINT8", [-1, 2]),
        ("UINT64", [-1, 2]),
        ("UINT64", [1, 2**64 - 1, 3]),
        ("BOOL", [2, 1]),
        ("BOOL", [0.5, 1]),
        ("BF16", [1.0, 2.0]),
        ("BYTES", [1, "a"]),
        ("BYTES", ["a"]),
    ],
)
def test_json_values_that_are_not_of_the_type_are_refused(datatype: str, data: Any) -> None:
    """Nothing is rounded, cut or guessed."""
    with pytest.raises(RequestError):
        from_json("x", datatype, [2], data)


def test_uint64_keeps_what_exceeds_int64_beside_what_does_not() -> None:
    """numpy would make floats of the two."""
    expected = np.array([1, 2**64 - 1], dtype=np.uint64)
    np.testing.assert_array_equal(expected, from_json("x", "UINT64", [2], [1, 2**64 - 1]))


def test_data_nested_without_end_is_refused() -> None:
    """No recursion follows it."""
    data: Any = [1]
    for _ in range(1000):
        data = [data]
    with pytest.raises(RequestError, match="nested at most"):
        from_json("x", "INT64", [1], data)


def test_shapes_larger_than_memory_beside_a_zero_are_refused() -> None:
    """Their product is 0, and numpy counts no further than it can."""
    shape = [0, *[2**39] * 8]
    for datatype in ("FP32", "BOOL", "BF16"):
        with pytest.raises(RequestError):
            from_wire("x", datatype, shape, memoryview(b""))
    with pytest.raises(RequestError):
        from_json("x", "FP32", shape, [])


def test_a_binary_request_has_its_tensors_in_order() -> None:
    """Sizes cut the bytes behind the JSON, whose length the header has."""
    a, b = np.arange(4, dtype="<f4"), np.arange(3, dtype="<i8")
    inputs = [
        described("a", "FP32", [1, 4], 16),
        {**described("c", "INT64", [2]), "data": [5, 6]},
        described("b", "INT64", [3], 24),
    ]
    body, length = message(inputs, a.tobytes() + b.tobytes(), id="an id")
    found = parse(body, length)
    assert isinstance(found, InferRequest)
    assert found.id == "an id"
    values = {each.name: each.value for each in found.inputs}
    np.testing.assert_array_equal(a.reshape(1, 4), values["a"])
    np.testing.assert_array_equal(b, values["b"])
    np.testing.assert_array_equal([5, 6], values["c"])


@pytest.mark.parametrize("length", ["-1", "1.5", "a", "", " 3", "²", "9" * 30, "100000"])
def test_a_header_length_that_lies_is_refused(length: str) -> None:
    """A whole number from 0 to the body's length."""
    body, _ = message([described("x", "FP32", [1], 4)], bytes(4))
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        parse(body, length)


@given(st.data())
def test_any_header_length_is_answered_or_refused(data: st.DataObject) -> None:
    """Whatever it cuts the body into."""
    body, right = message([described("x", "FP32", [2], 8)], bytes(8))
    length = data.draw(st.integers(0, len(body)))
    if str(length) == right:
        return
    if length == 0:
        assert isinstance(parse(body, "0"), RawRequest)
        return
    with pytest.raises((RequestError, MalformedBody)):
        parse(body, str(length))


@given(st.integers(0, 16), st.integers(-2, 20))
def test_binary_data_that_is_truncated_or_left_over_is_refused(sent: int, said: int) -> None:
    """Sizes, shapes and bytes must agree."""
    body, length = message([described("x", "FP32", [2], said)], bytes(sent))
    if sent == said == 8:
        parse(body, length)
        return
    with pytest.raises(RequestError):
        parse(body, length)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inputs": 3}, "inputs"),
        ({"inputs": [3]}, "inputs"),
        ({"inputs": [{}]}, "name"),
        ({"inputs": [{"name": ""}]}, "name"),
        ({"inputs": [{"name": "x", "datatype": "FP8", "shape": [1], "data": [1]}]}, "datatype"),
        ({"inputs": [{"name": "x", "datatype": ["FP32"], "shape": [1]}]}, "datatype"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": 1, "data": [1]}]}, "shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1], "data": [1]}]}, "shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [True], "data": [1]}]}, "shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1] * 17}]}, "shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}, "expected data"),
        ({"inputs": [described("x", "FP32", [1], 4)]}, "Inference-Header-Content-Length"),
        ({"inputs": [described("x", "FP32", [1], "4")]}, "binary_data_size"),
        ({"inputs": [described("x", "FP32", [1], True)]}, "binary_data_size"),
        ({"inputs": [{**described("x", "INT8", [1]), "data": [1]}] * 2}, "already exists"),
        ({"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, "binary_"),
        ({"inputs": [], "outputs": [{"name": "y"}, {"name": "y"}]}, "output 'y' already exists"),
        ({"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 3}}]}, "class"),
        ({"inputs": [], "id": 7}, "id"),
        ({"inputs": [], "id": "x" * 2000}, "id"),
        ({"inputs": [], "parameters": []}, "parameters"),
        ({"inputs": [], "parameters": {"a": {}}}, "parameter 'a'"),
        ({"inputs": [], "parameters": {"shared_memory_region": "r"}}, "shared memory"),
        ({"inputs": [], "parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(changed: dict[str, Any], said: str) -> None:
    """The field, and what was expected of it."""
    with pytest.raises(RequestError, match=said):
        parse(orjson.dumps(changed), None)


@pytest.mark.parametrize("body", [b"", b"[", b'{"inputs": [NaN]}', b"\xff", b"[" * 5000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    """Triton answers 500 here."""
    with pytest.raises(MalformedBody, match="failed to parse"):
        parse(body, None)


def test_strings_do_not_grow_on_their_way() -> None:
    """numpy would make a million words as wide as the longest of them."""
    data = ["x" * 10**6, *[1] * 10**5]
    with pytest.raises(RequestError, match="values of int, str"):
        from_json("x", "FP32", [len(data)], data)
    with pytest.raises(RequestError, match="at most"):
        from_wire("x", "BYTES", [2**21], memoryview(bytes(4 * 2**21)))


def test_an_empty_tensor_has_no_bytes() -> None:
    """Of every datatype."""
    for datatype in (*DTYPES, "BF16"):
        found = from_wire("x", datatype, [0, 3], memoryview(b""))
        assert np.shape(found) == (0, 3)
    assert from_wire("x", "BYTES", [0], memoryview(b"")) == []
    assert math.prod(np.shape(from_json("x", "FP32", [2, 0], [[], []]))) == 0
