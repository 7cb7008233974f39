"""Mapped files are brought in whole, cached or not, whatever their size beside the window's."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from fusion import places, readahead
from fusion.places import PAGE_BYTES, Mapped, Places

_libc = ctypes.CDLL(None, use_errno=True)


def _drop_from_page_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _present_pages(mapped: Mapped) -> int:
    """Pages of the map that are in the page cache."""
    bytes_ = mapped.data.numel()
    found = ctypes.create_string_buffer(-(-bytes_ // PAGE_BYTES))
    address = ctypes.c_void_p(mapped.data.data_ptr())
    assert _libc.mincore(address, ctypes.c_size_t(bytes_), found) == 0
    return sum(flag & 1 for flag in found.raw)


def _mapped_kib(mapped: Mapped) -> int:
    """What of the map is in the process's page tables, by its smaps."""
    begin = f"{mapped.data.data_ptr():x}-"
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    next(line for line in lines if line.startswith(begin))
    rss = next(line for line in lines if line.startswith("Rss:"))
    return int(rss.split()[1])


@pytest.mark.parametrize(
    "bytes_", [1, PAGE_BYTES, readahead.WINDOW_BYTES, 2 * readahead.WINDOW_BYTES + PAGE_BYTES + 1]
)
@pytest.mark.parametrize("is_cold", [True, False])
@pytest.mark.parametrize("is_huge", [True, False])
def test_every_page_is_present_when_a_map_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_: int, is_cold: bool, is_huge: bool
) -> None:
    """In the page cache and in the process's own tables: the first run faults nothing.

    Also where huge pages are taken for what the file system has, and it has none.
    """
    monkeypatch.setattr(places, "has_huge_pages", lambda _: is_huge)
    path = tmp_path / "file"
    path.write_bytes(bytes([7]) * bytes_)
    if is_cold:
        _drop_from_page_cache(path)
    with path.open("rb") as file:
        mapped = Places().map(file.fileno(), bytes_)
    pages = -(-bytes_ // PAGE_BYTES)
    assert pages == _present_pages(mapped)
    assert pages * PAGE_BYTES // 1024 == _mapped_kib(mapped)
    assert (int(mapped.data[0]), int(mapped.data[-1])) == (7, 7)
    assert mapped.close()
