"""Bodies of invocations: what is taken, and why the rest is not."""

import msgpack
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract.errors import InvalidInput, MalformedBody, RequestError, UnsupportedMediaType
from contract.job import TENSORS
from contract.tensors import Tensor, encode_tensor, unpack_tensors
from gateway.bodies import Payload, read_payload
from gateway.numpy_files import write_npy, write_npz
from tests.unit.gateway.manifests import MANIFEST, WITH_HOOKS

LIMIT = 10**6
INPUTS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 8), st.just(4)), elements=st.floats(-1024, 1024, width=32)
)


@given(INPUTS)
def test_one_tensor_in_any_type_is_the_same_job(x: Tensor) -> None:
    """JSON, msgpack, .npy and .npz are four ways to say it; JSON keeps float32 exactly."""
    bodies = {
        "application/json": orjson.dumps({"inputs": {"x": x.tolist()}}),
        "application/msgpack": msgpack.packb({"inputs": {"x": encode_tensor(x)}}),
        "application/x-npy": write_npy(x),
        "application/x-npz": write_npz({"x": x}),
    }
    payloads = {read_payload(MANIFEST, media, body, LIMIT) for media, body in bodies.items()}
    assert len(payloads) == 1
    payload = payloads.pop()
    assert (TENSORS, len(x)) == (payload.type, payload.rows)
    np.testing.assert_array_equal(x, unpack_tensors(payload.data)["x"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([1], "body"),
        ({}, "inputs"),
        ({"inputs": [1]}, "inputs"),
        ({"inputs": {}}, "inputs.x"),
        ({"input": {"x": [[1, 2, 3, 4]]}}, "body"),
        ({"inputs": {"x": [[1, 2, 3, 4]], "y": 1}}, "inputs"),
        ({"inputs": {"x": [[1, 2, 3]]}}, "inputs.x"),
        ({"inputs": {"x": [[1, 2, 3, 4], [1]]}}, "inputs.x"),
        ({"inputs": {"x": [["1", "2", "3", "4"]]}}, "inputs.x"),
        ({"inputs": {"x": [[None, 2, 3, 4]]}}, "inputs.x"),
        ({"inputs": {"x": []}}, "inputs.x"),
        ({"inputs": {"x": [[1, 2, 3, 4]] * 9}}, "inputs.x"),
    ],
)
def test_a_wrong_tensor_is_refused_by_name(body: object, field: str) -> None:
    """422 names the field, what was expected and what came."""
    with pytest.raises(InvalidInput) as caught:
        read_payload(MANIFEST, "application/json", orjson.dumps(body), LIMIT)
    assert field == caught.value.extensions["field"]
    assert {"field", "expected", "actual"} == caught.value.extensions.keys()


def test_msgpack_of_another_dtype_is_refused() -> None:
    """Only JSON numbers are converted; whoever packs a tensor knows its dtype."""
    body = msgpack.packb({"inputs": {"x": encode_tensor(np.zeros((1, 4), np.float64))}})
    with pytest.raises(InvalidInput, match="expected dtype float32, got dtype float64"):
        read_payload(MANIFEST, "application/msgpack", body, LIMIT)


@pytest.mark.parametrize("manifest", [MANIFEST, WITH_HOOKS])
@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[NaN]"),
        ("application/json", b"[Infinity]"),
        ("application/json", b"\xff"),
        ("application/json", b"[" * 100_000),
        ("application/json; charset=utf-8", b""),
        ("application/msgpack", b""),
        ("application/msgpack", b"\x01\x01"),
        ("application/x-msgpack", b"\x81"),
        ("application/x-npy", b"x"),
        ("application/x-npz", b"PK"),
    ],
)
def test_a_body_is_what_it_says_it_is(manifest: object, media: str, body: bytes) -> None:
    """Also where the function itself would take the bytes."""
    with pytest.raises(MalformedBody):
        read_payload(manifest, media, body, LIMIT)  # type: ignore[arg-type]


@pytest.mark.parametrize("media", ["text/plain", "application/octet-stream", "image/png"])
def test_tensors_come_in_types_that_hold_tensors(media: str) -> None:
    """415 says which ones."""
    with pytest.raises(UnsupportedMediaType) as caught:
        read_payload(MANIFEST, media, b"", LIMIT)
    assert "application/x-npz" in caught.value.extensions["accepted"]


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/plain; charset=latin-1", "text/plain; charset=latin-1"),
        ("image/png", "image/png"),
        ("", "application/octet-stream"),
    ],
)
def test_preprocess_gets_any_other_body_as_it_came(content_type: str, expected: str) -> None:
    """The bytes and their type are the function's affair."""
    assert Payload(expected, b"\xff", 1) == read_payload(WITH_HOOKS, content_type, b"\xff", LIMIT)


def test_preprocess_gets_known_types_by_their_plain_name() -> None:
    """The handler host decodes by type, so parameters and aliases are gone."""
    payload = read_payload(WITH_HOOKS, "Application/JSON; charset=utf-8", b"3", LIMIT)
    assert Payload("application/json", b"3", 1) == payload


@given(st.binary(max_size=100), st.sampled_from(["json", "msgpack", "x-npy", "x-npz"]))
def test_any_bytes_are_taken_or_refused(body: bytes, kind: str) -> None:
    """Nothing but errors of the tree comes out."""
    for manifest in (MANIFEST, WITH_HOOKS):
        try:
            read_payload(manifest, f"application/{kind}", body, LIMIT)
        except RequestError:
            continue
