"""Files in huge pages, where the file system has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from contract.pieces import PIECE_BYTES, write_in_pieces
from fusion.huge_pages import HUGE_BYTES, has_huge_pages, huge_bytes_at
from fusion.places import Mapped, Places


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """A folder whose file system has them."""
    with (tmp_path / "file").open("wb") as file:
        if not has_huge_pages(file.fileno()):
            pytest.skip("the file system keeps no files in huge pages")
    return tmp_path


def _map(path: Path) -> Mapped:
    with path.open("rb") as file:
        return Places().map(file.fileno(), path.stat().st_size)


@pytest.mark.parametrize("is_cold", [True, False])
def test_a_file_is_mapped_in_huge_pages(huge: Path, is_cold: bool) -> None:
    """Read from disk, or as it was written; what is less than one at its end is not."""
    path = huge / "file"
    bytes_ = 3 * PIECE_BYTES + HUGE_BYTES + 17
    chunk = bytes(range(256)) * 256
    with path.open("wb") as file:
        chunks = (chunk for _ in range(bytes_ // len(chunk)))
        write_in_pieces(file, [*chunks, chunk[: bytes_ % len(chunk)]])
        if is_cold:
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    mapped = _map(path)
    assert mapped.data.data_ptr() % HUGE_BYTES == 0
    assert huge_bytes_at(mapped.data.data_ptr()) == bytes_ // HUGE_BYTES * HUGE_BYTES
    assert mapped.data.numpy().tobytes() == path.read_bytes()
    assert mapped.unmap(HUGE_BYTES // 2, HUGE_BYTES)
    assert int(mapped.data[HUGE_BYTES + 5]) == 5
    assert mapped.close()


def test_asking_leaves_no_file(tmp_path: Path) -> None:
    """The file that is asked by has no name, and is gone with its descriptor."""
    path = tmp_path / "file"
    path.touch()
    before = os.listdir("/proc/self/fd")
    with path.open("rb") as file:
        has_huge_pages(file.fileno())
    assert os.listdir(tmp_path) == ["file"]
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_where_nothing_can_be_asked_there_are_none() -> None:
    """A file system without files of one's own, and a descriptor that is none."""
    with Path("/proc/self/status").open("rb") as file:
        assert not has_huge_pages(file.fileno())
    assert not has_huge_pages(-1)
