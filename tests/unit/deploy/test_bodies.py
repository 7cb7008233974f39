"""Bodies of invocations, from what the command line was given."""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deploy.bodies import read_body
from deploy.client import Body

names = st.text("abcdefghij_0123456789", min_size=1, max_size=12)
shapes = arrays.array_shapes(max_dims=3, max_side=4)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(names, arrays.arrays(np.float32, shapes, elements={"allow_nan": False})).filter(
        bool
    )
)
def test_inputs_become_an_npz_that_numpy_reads(tmp_path: Path, tensors: dict[str, object]) -> None:
    """The archive is written without NumPy; NumPy must not tell the difference."""
    options = []
    for name, tensor in tensors.items():
        np.save(tmp_path / f"{name}.npy", np.asarray(tensor))
        options.append(f"{name}={tmp_path / name}.npy")
    body = read_body(None, None, options, None)
    with np.load(io.BytesIO(body.data)) as found:
        assert sorted(tensors) == sorted(found.files)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(np.asarray(tensor), found[name])
    assert body.content_type == "application/x-npz"


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("x.json", "application/json"),
        ("x.npy", "application/x-npy"),
        ("x.NPZ", "application/x-npz"),
        ("x.msgpack", "application/msgpack"),
        ("x.png", "image/png"),
        ("x", "application/octet-stream"),
    ],
)
def test_a_files_suffix_says_what_it_is(tmp_path: Path, name: str, media: str) -> None:
    """The bytes are sent as they are."""
    (tmp_path / name).write_bytes(b"\x00\x01")
    assert Body(media, b"\x00\x01") == read_body(None, str(tmp_path / name), [], None)


def test_a_given_media_type_wins() -> None:
    """For files whose suffix says nothing."""
    assert Body("text/plain", b'"x"') == read_body('"x"', None, [], "text/plain")


@pytest.mark.parametrize(
    ("data", "file", "inputs", "message"),
    [
        (None, None, [], "give one of --data, --file and --input"),
        ("1", "x", [], "give one of --data, --file and --input"),
        ("{", None, [], "not JSON"),
        (None, "/no/such/file", [], "/no/such/file: No such file or directory"),
        (None, None, ["x"], "'x' is not name=x.npy"),
        (None, None, ["x=/dev/null", "x=/dev/null"], "'x' is given twice"),
    ],
)
def test_what_cannot_be_sent_is_wrong_usage(
    data: str | None, file: str | None, inputs: list[str], message: str
) -> None:
    """Told before anything is sent."""
    with pytest.raises(click.UsageError) as caught:
        read_body(data, file, inputs, None)
    assert message in caught.value.message
