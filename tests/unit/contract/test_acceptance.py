"""A weights file is trusted for as long as it is the very file that was hashed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.acceptance import ACCEPTED, file_state, is_as_accepted, note_accepted

NAME = "weights.safetensors"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that was accepted."""
    path = tmp_path / "artifact" / NAME
    path.parent.mkdir()
    path.write_bytes(b"weights")
    note_accepted(path, file_state(path))
    return path


def _write_with_the_old_time(path: Path) -> None:
    times = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _copy(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def test_what_was_accepted_stays_so_when_its_folder_moves(weights: Path) -> None:
    """An artifact is placed after it was accepted, and read by many."""
    folder = weights.parent.rename(weights.parent.with_name("placed"))
    assert (folder / NAME).read_bytes() == b"weights"
    assert is_as_accepted(folder / NAME)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"other"),
        _write_with_the_old_time,
        _copy,
        lambda path: path.unlink(),
        lambda path: path.with_name(ACCEPTED).unlink(),
        lambda path: path.with_name(ACCEPTED).write_text("{"),
        lambda path: path.with_name(ACCEPTED).write_text("[]"),
        lambda path: path.with_name(ACCEPTED).write_bytes(b"\xff"),
    ],
)
def test_what_was_touched_since_is_hashed_again(
    weights: Path, change: Callable[[Path], object]
) -> None:
    """Also where size and time of modification are as before, or the note is gone."""
    change(weights)
    assert not is_as_accepted(weights)
