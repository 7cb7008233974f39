"""Tars: what `tarfile` writes of plain files is read, everything else is refused."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tar import TarError, members

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=120)


def packed(files: dict[str, bytes], layout: int) -> bytes:
    """The files as tarfile writes them."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=layout) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    """The files as they are read."""
    return {m.name: b"".join(m.chunks) for m in members(io.BytesIO(data).read)}


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=1500), max_size=4))
def test_what_tarfile_writes_by_default_is_read_the_same(files: dict[str, bytes]) -> None:
    """Long and foreign names come in pax headers."""
    assert files == unpacked(packed(files, tarfile.PAX_FORMAT))


def test_long_names_in_the_older_layout_are_put_together() -> None:
    """ustar cuts a name at a slash."""
    files = {"files/" + "d" * 60 + "/" + "f" * 80: b"x"}
    assert files == unpacked(packed(files, tarfile.USTAR_FORMAT))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_what_is_no_regular_file_is_refused(kind: bytes) -> None:
    """Links climb, devices are no data."""
    member = tarfile.TarInfo("x")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(TarError, match="not a regular file"):
        unpacked(member.tobuf() + bytes(1024))


def test_a_header_as_large_as_memory_is_refused() -> None:
    """A pax header is read at once, so it must be small."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 2**40
    with pytest.raises(TarError, match="a pax header of"):
        unpacked(member.tobuf(tarfile.GNU_FORMAT))


@pytest.mark.parametrize("cut", [1, 511, 600, 1024])
def test_a_tar_that_ends_early_is_refused(cut: int) -> None:
    """Half an artifact is none."""
    with pytest.raises(TarError, match="ends"):
        unpacked(packed({"x": b"y" * 600}, tarfile.USTAR_FORMAT)[:cut])


@given(st.integers(0, 2047), st.integers(0, 255))
def test_a_damaged_tar_is_read_or_refused(at: int, value: int) -> None:
    """One changed byte anywhere."""
    data = bytearray(packed({"ä": b"1", "y": b"2" * 600}, tarfile.PAX_FORMAT))
    data[at] = value
    try:
        unpacked(bytes(data))
    except TarError:
        return
