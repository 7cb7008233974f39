""".npy and .npz: what numpy writes is read, what lies is refused."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract.errors import MalformedBody, PayloadTooLarge
from contract.tensors import DTYPES, Tensor
from gateway.numpy_files import read_npy, read_npz, write_npy, write_npz

ARRAYS = hnp.arrays(
    st.sampled_from(DTYPES).map(np.dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)
)


def saved(array: Tensor) -> bytes:
    """A .npy file as numpy writes it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """A .npy file with this header."""
    text = header.encode() + b"\n"
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


@given(ARRAYS, st.sampled_from("CF"))
def test_what_numpy_saves_is_read_the_same(array: Tensor, order: str) -> None:
    """Every dtype, shape and order."""
    array = np.asarray(array, order=order)  # type: ignore[call-overload]
    np.testing.assert_array_equal(array, read_npy(saved(array)))


def test_big_endian_arrays_keep_their_values() -> None:
    """The byte order of the file is not the machine's."""
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    np.testing.assert_array_equal(array, read_npy(saved(array)))


@given(st.dictionaries(st.sampled_from(["file", "x", "y.npy"]), ARRAYS, max_size=3))
def test_npz_files_go_there_and_back(arrays: dict[str, Tensor]) -> None:
    """Also with names that `numpy.savez` cannot take."""
    found = read_npz(write_npz(arrays), 10**6)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, found[name])


@given(ARRAYS)
def test_what_is_written_numpy_loads(array: Tensor) -> None:
    """The answer is a plain .npy file."""
    np.testing.assert_array_equal(array, np.load(io.BytesIO(write_npy(array)), allow_pickle=False))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a .npy file"),
        (b"\x93NUMPY\x01\x00\xff\xff", "not a .npy file"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b" " * 9, "header is larger"),
        (npy("{}", version=9), "version 9"),
        (npy("{}"), "lacks"),
        (npy("[1"), "not a literal"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"\x80\x04N."), "dtype"),
        (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", b"1234"), "dtype"),
        (npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", b"12345678"), "dtype"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627775,)}"), "bytes"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}", b"1234"), "shape"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': [1]}", b"1234"), "shape"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"12345678"), "4 bytes"),
    ],
)
def test_a_file_that_lies_is_refused_before_it_costs_memory(data: bytes, reason: str) -> None:
    """Sizes are checked against the body; objects, records and complex numbers are not tensors."""
    with pytest.raises(MalformedBody, match=reason):
        read_npy(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but MalformedBody comes out of a broken file."""
    for broken in (
        data,
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}")[:-5] + data,
    ):
        try:
            read_npy(broken)
        except MalformedBody:
            continue


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_npz_is_read_or_refused(at: int, value: int) -> None:
    """One changed byte anywhere."""
    data = bytearray(write_npz({"x": np.arange(3.0)}))
    data[at % len(data)] = value
    try:
        read_npz(bytes(data), 10**6)
    except (MalformedBody, PayloadTooLarge):
        return


def test_an_archive_that_unpacks_to_too_much_is_refused_unopened() -> None:
    """A few kilobytes may hold gigabytes of zeros."""
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros(10**6))
    with pytest.raises(PayloadTooLarge):
        read_npz(file.getvalue(), 10**6)


@pytest.mark.parametrize("name", ["x", "x.txt"])
def test_members_that_are_no_arrays_are_refused(name: str) -> None:
    """An archive of anything else is not a .npz."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(MalformedBody, match="not a plain"):
        read_npz(file.getvalue(), 10**6)
