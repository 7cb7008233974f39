"""Fetched artifacts on this machine's disk: whole or not at all, shared by its workers, bounded.

A fetched artifact lies where deployed ones lie, in `artifacts/<digest>/`, and a file of its name in
`fetched/` says that it was fetched and may go. On that file every worker that uses the artifact
has a shared lock, and who removes it the only one: a process that dies gives it back. One process
at a time fetches it, under a lock of its own.
Budget: bytes of all fetched artifacts; who was used longest ago goes first (the file's time); pins
are the locks.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from contract.acceptance import file_state, note_accepted
from contract.errors import ArtifactUnavailable
from contract.function import WEIGHTS
from contract.log import Log
from contract.pieces import PIECE_BYTES

log = Log("fetching")
INCOMING = ".incoming"

# (artifact's tar) -> None; it writes the file
Fetch = Callable[[Path], None]


class Hold(NamedTuple):
    """The use of an artifact; `lock` is a descriptor, and None where none is needed."""

    lock: int | None

    def release(self) -> None:
        """It may go."""
        if self.lock is not None:
            os.close(self.lock)


class Shelf:
    """The artifacts under a data folder; thread-safe, and so for several processes."""

    def __init__(self, artifacts: Path, marks: Path, budget_bytes: int) -> None:
        self._artifacts = artifacts
        self._marks = marks
        self._budget_bytes = budget_bytes

    def is_here(self, digest: str) -> bool:
        """Whether the artifact is on this disk, deployed here or fetched."""
        return (self._artifacts / digest).is_dir()

    def hold(self, digest: str) -> Hold | None:
        """What keeps the artifact here until it is released; None where it has to be fetched."""
        if not self.is_here(digest):
            return None
        mark = self._marks / digest
        if not mark.exists():
            return Hold(None)  # deployed here: it goes when its function is removed
        try:
            lock = _lock(mark, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # it goes at this moment
            return None
        if self.is_here(digest):
            os.utime(lock)
            return Hold(lock)
        os.close(lock)
        return None

    def put(self, digest: str, size_bytes: int, fetch: Fetch) -> None:
        """Fetch an artifact of this size, unless another process just did; raises what it raises.

        While it is unpacked it takes its room twice.
        """
        self._marks.mkdir(parents=True, exist_ok=True)
        lock_path = self._marks / f"{digest}.fetching"
        lock = _lock(lock_path, fcntl.LOCK_EX)
        try:
            if self.is_here(digest):
                return
            self._make_room(size_bytes)
            with self._incoming(digest) as folder:
                tar, unpacked = folder / "tar", folder / "unpacked"
                fetch(tar)
                _unpack(tar, unpacked)
                # before it: what has no mark counts as deployed
                (self._marks / digest).write_text(str(size_bytes))
                unpacked.rename(self._artifacts / digest)
            # others may have fetched meanwhile
            with suppress(ArtifactUnavailable):
                self._make_room(0)
        finally:
            lock_path.unlink()
            os.close(lock)

    def fetched_bytes(self) -> int:
        """Of all fetched artifacts that are here."""
        return sum(size for _, _, size in self._fetched())

    def _make_room(self, size_bytes: int) -> None:
        """Remove what was used longest ago; raises ArtifactUnavailable where all is in use."""
        taken = sorted(self._fetched())
        excess_bytes = sum(size for _, _, size in taken) + size_bytes - self._budget_bytes
        for _, digest, size in taken:
            if excess_bytes <= 0:
                return
            if self._remove(digest):
                excess_bytes -= size
        if excess_bytes > 0:
            raise ArtifactUnavailable(
                f"an artifact of {size_bytes:,} bytes does not fit beside those in use: "
                f"FUSEBOX_ARTIFACT_CACHE is {self._budget_bytes:,} bytes"
            )

    def _fetched(self) -> list[tuple[float, str, int]]:
        """When it was used last, digest and bytes of each."""
        found = []
        for mark in self._marks.iterdir() if self._marks.is_dir() else ():
            with suppress(FileNotFoundError):  # it goes at this moment
                text, used_at_s = mark.read_text(), mark.stat().st_mtime
                # what has no folder is gone, or not there yet; a lock is empty
                if text.isdigit() and self.is_here(mark.name):
                    found.append((used_at_s, mark.name, int(text)))
        return found

    def _remove(self, digest: str) -> bool:
        """Remove an artifact; False where somebody uses it."""
        try:
            lock = _lock(self._marks / digest, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            with self._incoming(digest) as folder, suppress(FileNotFoundError):
                # in one move: nobody ever reads half of one
                (self._artifacts / digest).rename(folder / "removed")
            (self._marks / digest).unlink()
        finally:
            os.close(lock)
        log.info("artifact_dropped", artifact=digest)
        return True

    @contextmanager
    def _incoming(self, digest: str) -> Iterator[Path]:
        """A folder for what is under way, which a gateway's sweep leaves alone; it goes."""
        folder = self._artifacts / INCOMING / f"{digest}.{secrets.token_hex(8)}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _lock(path: Path, kind: int) -> int:
    """Lock a file, made where there is none; BlockingIOError where that would mean to wait."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, kind)
            # whoever held it may have removed the file that was opened
            if _is_same(lock, path):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _unpack(tar: Path, folder: Path) -> None:
    """Unpack what has the digest of an accepted artifact; its weights need not be hashed again."""
    folder.mkdir()
    with tarfile.open(tar) as members:
        members.copybufsize = PIECE_BYTES  # type: ignore[attr-defined]  # typeshed lacks it
        members.extractall(folder, filter="data")
    tar.unlink()
    weights = folder / WEIGHTS
    note_accepted(weights, file_state(weights))


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
