"""The artifact store on a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from contract.errors import StorageFull
from gateway.artifacts import Artifacts

DIGEST = "d" * 64


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_said_as_such_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    """A disk, a quota or a limit on files; the upload's own folder goes."""

    def read(_size: int) -> bytes:
        raise OSError(number, os.strerror(number))

    artifacts = Artifacts(tmp_path, 10**6)
    with pytest.raises(StorageFull), artifacts.receive(read, DIGEST):
        pytest.fail("nothing was received")
    assert [path.name for path in tmp_path.rglob("*")] == [".incoming"]


def test_other_faults_of_a_disk_stay_what_they_are(tmp_path: Path) -> None:
    """They are no client's business, and the log has them."""

    def read(_size: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    artifacts = Artifacts(tmp_path, 10**6)
    with pytest.raises(OSError, match="Input/output"), artifacts.receive(read, DIGEST):
        pytest.fail("nothing was received")
