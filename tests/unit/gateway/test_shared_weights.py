"""Weights that are stored already take no room again, and no file depends on another."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from contract.acceptance import ACCEPTED, file_state, is_as_accepted, note_accepted
from fusion.weights import read_index, write_weights
from gateway.artifacts import Artifacts
from gateway.shared_weights import BLOCK_BYTES, SHARED_BYTES, SharedWeights, share_blocks

NAME = "weights.safetensors"
BACKBONE = {"first": torch.arange(150_000.0), "bias": torch.ones(3), "second": torch.ones(300_000)}


class Shares:
    """Notes what is to be shared, as a file system that can would."""

    def __init__(self, fails: int = 0) -> None:
        self.ranges: list[tuple[int, int, int]] = []
        self.fails = fails

    def __call__(self, source: int, offset: int, target: int, its: int, length: int) -> int:
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        assert os.pread(source, length, offset) == os.pread(target, length, its)
        assert (offset % BLOCK_BYTES, its % BLOCK_BYTES, length % BLOCK_BYTES) == (0, 0, 0)
        self.ranges.append((offset, its, length))
        return length


def stored(folder: Path, digest: str, **tensors: torch.Tensor) -> Path:
    """The weights of an artifact in its place."""
    (folder / digest).mkdir(parents=True)
    return written(folder / digest / NAME, tensors)


def written(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A file that was accepted."""
    write_weights(path, {**BACKBONE, **tensors})
    note_accepted(path, file_state(path))
    return path


@pytest.fixture
def incoming(tmp_path: Path) -> Callable[..., Path]:
    """Makes the weights of an artifact that is to be placed."""

    def make(**tensors: torch.Tensor) -> Path:
        path = tmp_path / ".incoming" / str(len(tensors)) / NAME
        path.parent.mkdir(parents=True)
        return written(path, tensors)

    return make


def test_the_same_file_is_linked(tmp_path: Path, incoming: Callable[..., Path]) -> None:
    """By the file system, which keeps it until the last of both is removed.

    Links change a file's state: both stay accepted as they are, for workers that would hash them.
    """
    first, second = stored(tmp_path, "one"), incoming()
    content = first.read_bytes()
    assert SharedWeights(tmp_path, Shares()).share(second) == len(content)
    assert second.samefile(first)
    assert sorted(path.name for path in second.parent.iterdir()) == [ACCEPTED, NAME]
    assert is_as_accepted(first)
    assert is_as_accepted(second)
    second.parent.rename(tmp_path / "two")
    assert Artifacts(tmp_path, 0).sweep(lambda: {"two"}) == ["one"]
    assert is_as_accepted(tmp_path / "two" / NAME)
    assert (tmp_path / "two" / NAME).read_bytes() == content


def test_one_byte_that_differs_is_no_link(tmp_path: Path, incoming: Callable[..., Path]) -> None:
    """Though both headers say the same: bits of the stored one have flipped."""
    first, second = stored(tmp_path, "one"), incoming()
    with first.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    shares = Shares(errno.EOPNOTSUPP)
    assert SharedWeights(tmp_path, shares).share(second) == 0
    assert not second.samefile(first)
    assert is_as_accepted(second)
    assert not is_as_accepted(first)


def test_a_link_that_cannot_be_made_leaves_the_file(
    tmp_path: Path, incoming: Callable[..., Path]
) -> None:
    """As when the stored one is removed at that moment."""
    first, second = stored(tmp_path, "one"), incoming()
    shares = SharedWeights(tmp_path, Shares(errno.EOPNOTSUPP))
    assert shares.share(incoming(head=torch.ones(9))) == 0  # it knows of the first
    first.unlink()
    first.symlink_to(tmp_path / "nowhere")
    assert shares.share(second) == 0
    assert is_as_accepted(second)
    assert sorted(path.name for path in second.parent.iterdir()) == [ACCEPTED, NAME]


def test_identical_tensors_share_their_blocks(
    tmp_path: Path, incoming: Callable[..., Path]
) -> None:
    """All whole blocks of those that are large enough, and nothing of any other."""
    first, second = stored(tmp_path, "one", head=torch.zeros(9)), incoming(head=torch.ones(9))
    content, shares = second.read_bytes(), Shares()
    saved_bytes = SharedWeights(tmp_path, shares).share(second)
    index = read_index(first)
    large = [entry for entry in index.entries if entry.nbytes >= SHARED_BYTES]
    assert [entry.name for entry in large] == ["first", "second"]
    assert saved_bytes == sum(length for _, _, length in shares.ranges)
    for entry, (offset, its, length) in zip(large, shares.ranges, strict=True):
        begin = index.data_offset + entry.offset
        assert begin <= offset == its < begin + BLOCK_BYTES
        assert begin + entry.nbytes - BLOCK_BYTES < offset + length <= begin + entry.nbytes
    assert second.read_bytes() == content


def test_tensors_that_lie_otherwise_in_their_blocks_are_stored_again(
    tmp_path: Path, incoming: Callable[..., Path]
) -> None:
    """Blocks are shared, not bytes."""
    path = tmp_path / "one" / NAME
    path.parent.mkdir()
    write_weights(path, {"before": torch.zeros(16), **BACKBONE})
    shares = Shares()
    assert SharedWeights(tmp_path, shares).share(incoming()) == 0
    assert shares.ranges == []


def test_a_file_system_that_cannot_is_asked_once(
    tmp_path: Path, incoming: Callable[..., Path]
) -> None:
    """And files are stored as they are."""
    stored(tmp_path, "one", head=torch.zeros(9))
    shares = Shares(errno.EOPNOTSUPP)
    weights = SharedWeights(tmp_path, shares)
    assert weights.share(incoming(head=torch.ones(9))) == 0
    shares.fails = 0
    assert weights.share(incoming(head=torch.ones(9), other=torch.ones(9))) == 0
    assert shares.ranges == []


def test_what_is_removed_lends_nothing_more(tmp_path: Path, incoming: Callable[..., Path]) -> None:
    """And what is broken never does."""
    first = stored(tmp_path, "one", head=torch.zeros(9))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / NAME).write_bytes(b"\x08\0\0\0\0\0\0\0not JSON")
    (tmp_path / "five").mkdir()
    (tmp_path / "five" / NAME).write_bytes(b"\xff" * 20)
    (tmp_path / "three").mkdir()
    shares = Shares()
    weights = SharedWeights(tmp_path, shares)
    assert weights.share(incoming(head=torch.ones(9))) > 0
    stored(tmp_path, "four", head=torch.full((9,), 2.0))
    other = incoming(head=torch.ones(9), other=torch.ones(9))
    shutil.rmtree(first.parent)
    shares.ranges.clear()
    assert weights.share(other) > 0  # the fourth has it still
    shutil.rmtree(tmp_path / "four")
    shares.ranges.clear()
    assert weights.share(other) == 0
    assert shares.ranges == []


def test_the_kernel_shares_equal_blocks(tmp_path: Path) -> None:
    """Equal blocks are, where the file system can; what differs never is."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1" * 2 * BLOCK_BYTES)
    two.write_bytes(b"2" * BLOCK_BYTES + b"1" * BLOCK_BYTES)
    with one.open("rb") as source, two.open("r+b") as target:
        os.fsync(source.fileno())
        os.fsync(target.fileno())
        state = file_state(two)
        ends = source.fileno(), BLOCK_BYTES, target.fileno(), BLOCK_BYTES, BLOCK_BYTES
        try:
            shared_bytes = share_blocks(*ends)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
                raise
            pytest.skip(f"this file system shares no blocks: {error}")
        assert shared_bytes == BLOCK_BYTES
        assert share_blocks(source.fileno(), 0, target.fileno(), 0, BLOCK_BYTES) == 0
    assert file_state(two) == state  # and accepted as it was
    assert two.read_bytes() == b"2" * BLOCK_BYTES + b"1" * BLOCK_BYTES
