"""Tensors keep their values on every way through the platform; bad ones are named."""

from __future__ import annotations

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract.errors import FuseboxError, InvalidInput, MalformedBody
from contract.tensors import (
    DTYPES,
    TensorSpec,
    check_names,
    decode_tensor,
    from_nested,
    pack_tensors,
    rows_of,
    unpack_tensors,
)

ANY_TENSOR = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
SPEC = TensorSpec("x", "float32", (None, 2))


@given(st.dictionaries(st.text(min_size=1, max_size=8), ANY_TENSOR, max_size=3))
def test_packed_tensors_come_back_as_they_were(tensors: dict[str, np.ndarray]) -> None:
    """Names, dtypes, shapes and every bit."""
    found = unpack_tensors(pack_tensors(tensors))
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype.name == tensor.dtype.name
        assert found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()


@given(st.binary(max_size=200))
def test_any_bytes_are_tensors_or_a_malformed_body(data: bytes) -> None:
    """Nothing else is raised, whatever comes."""
    with contextlib.suppress(MalformedBody):
        assert isinstance(unpack_tensors(data), dict)


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_any_json_value_is_a_tensor_of_the_spec_or_invalid_input(value: object) -> None:
    """Nothing else is raised, whatever comes."""
    with contextlib.suppress(InvalidInput):
        SPEC.check(from_nested(SPEC, value))


@pytest.mark.parametrize(
    ("record", "part"),
    [
        ({"dtype": "float32", "shape": [2], "data": b"1234"}, "data: expected 8 bytes, got 4"),
        ({"dtype": "object", "shape": [1], "data": b"12345678"}, "dtype"),
        ({"dtype": "float32", "shape": [-1], "data": b""}, "shape"),
        ({"dtype": "float32", "shape": [2**60, 2**60], "data": b""}, "shape"),
        ({"dtype": "float32", "shape": [1], "data": "text"}, "data: expected bytes, got str"),
        ({"dtype": ["float32"], "shape": [1], "data": b""}, "dtype"),
        ({"dtype": "float32", "shape": [1]}, "expected a map of dtype, shape and data"),
        ([], "expected a map of dtype, shape and data"),
    ],
)
def test_a_lying_tensor_record_is_malformed(record: object, part: str) -> None:
    """The message names what is wrong."""
    with pytest.raises(MalformedBody, match=r"^y") as caught:
        decode_tensor("y", record)
    assert part in caught.value.detail


@pytest.mark.parametrize(
    ("dtype", "value", "actual"),
    [
        ("float32", [[1, 2], [3]], "ragged lists or numbers out of range"),
        ("float32", [["a", "b"]], "values that are not numbers"),
        ("float32", {"a": 1}, "values that are not numbers"),
        ("float32", None, "values that are not numbers"),
        ("float32", [[True, False]], "values of bool"),
        ("int64", [[1.5, 2.0]], "numbers with a fraction"),
        ("uint8", [[0, 256]], "a number outside 0..255"),
        ("bool", [[0, 1]], "values of int64"),
        ("float32", [[1e39, 0]], "a number beyond float32"),
        ("float16", [[70000, 0]], "a number beyond float16"),
        ("float32", [[1, 2, 3]], "shape [1, 3]"),
        ("float32", [1, 2], "shape [2]"),
    ],
)
def test_nested_lists_that_do_not_fit_say_why(dtype: str, value: object, actual: str) -> None:
    """Field, what was expected, what came."""
    with pytest.raises(InvalidInput) as caught:
        from_nested(SPEC._replace(dtype=dtype), value)
    assert caught.value.extensions["field"] == "inputs.x"
    assert actual in caught.value.detail
    assert caught.value.extensions["actual"] == actual


def test_integers_are_welcome_where_floats_are_expected() -> None:
    """People write 1 for 1.0."""
    assert from_nested(SPEC, [[1, 2]]).dtype == np.float32


def test_inputs_must_agree_on_their_rows() -> None:
    """And stay within the largest batch."""
    other = SPEC._replace(name="y")
    tensors = {"x": np.zeros((2, 2)), "y": np.zeros((3, 2))}
    with pytest.raises(InvalidInput, match=r"inputs\.y: expected 2 rows as x, got 3 rows"):
        rows_of((SPEC, other), tensors, 8)
    with pytest.raises(InvalidInput, match="1 to 1 rows, got 2 rows"):
        rows_of((SPEC,), tensors, 1)
    with pytest.raises(InvalidInput, match="got 0 rows"):
        rows_of((SPEC,), {"x": np.zeros((0, 2))}, 8)
    assert rows_of((SPEC,), tensors, 8) == 2


def test_rows_that_no_static_graph_takes_are_refused_with_those_that_one_does() -> None:
    """Where rows depend on each other nothing can be filled up."""
    three = {"x": np.zeros((3, 2))}
    with pytest.raises(InvalidInput, match=r"inputs\.x: expected 2, 4 or 8 rows, got 3 rows"):
        rows_of((SPEC,), three, 8, (2, 4, 8))
    with pytest.raises(InvalidInput, match="expected exactly 2 rows, got 3 rows"):
        rows_of((SPEC,), three, 3, (2,))
    assert rows_of((SPEC,), {"x": np.zeros((4, 2))}, 8, (2, 4, 8)) == 4


def test_missing_and_unexpected_inputs_are_named() -> None:
    """So that a typo is seen at once."""
    with pytest.raises(InvalidInput, match=r"inputs\.x: expected float32 \[rows, 2\], got nothing"):
        check_names((SPEC,), {})
    with pytest.raises(InvalidInput, match="expected one of x, got an input named 'z'"):
        check_names((SPEC,), {"x": 1, "z": 1})


@given(st.binary(max_size=30), st.sampled_from(DTYPES), st.lists(st.integers(-3, 9), max_size=3))
def test_no_record_makes_a_tensor_beyond_its_bytes(
    data: bytes, dtype: str, shape: list[int]
) -> None:
    """A shape cannot claim memory that did not come."""
    packed = msgpack.packb({"x": {"dtype": dtype, "shape": shape, "data": data}})
    try:
        tensor = unpack_tensors(packed)["x"]
    except FuseboxError:
        return
    assert tensor.nbytes == len(data)
