"""Benchmarks say whether a file was cold, and it was."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from bench._files import DirectReads, cached_share, drop, warm


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of several blocks, and a bit."""
    found = tmp_path / "file"
    found.write_bytes(os.urandom(9 * 2**20 + 1))
    return found


def test_what_is_dropped_is_cold_and_what_is_read_is_warm(path: Path) -> None:
    """Direct reads leave it as it is."""
    drop(path)
    reads = DirectReads(path)
    reads.read()
    reads.close()
    assert cached_share(path) == 0.0
    warm(path)
    assert cached_share(path) == 1.0


def test_a_file_that_stays_is_no_measurement(path: Path) -> None:
    """A mapped one cannot be dropped."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert len(mapped[::4096]) > 0
        with pytest.raises(RuntimeError, match="stayed in the page cache"):
            drop(path)
