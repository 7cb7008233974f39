"""Weights that another artifact has already take no room on disk again, as far as that can be.

A file that is the same to the byte becomes a hard link, as where a version brings other code alone.
Of other files identical tensors share their blocks where the file system has shared blocks (XFS,
btrfs): the kernel compares the bytes itself (FIDEDUPERANGE, Linux 4.5) and counts references. Every
file reads by itself as before, and goes without a look at others.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import orjson

from contract.acceptance import file_state, is_as_accepted, note_accepted
from contract.log import Log

log = Log("shared_weights")
# A smaller tensor is not worth its extent.
SHARED_BYTES = 256 * 1024
# Linux, uapi/linux/fs.h: the request, and struct file_dedupe_range with one file to change
FIDEDUPERANGE = 0xC0189436
_RANGE = struct.Struct("=QQHHIqQQiI")
# file systems share whole blocks, and as much at once
BLOCK_BYTES = 4096
MOST_BYTES = 16 * 2**20
_PREFIX_BYTES = 8
_DIGEST_KEY = "sha256."

# (file, offset, other file, its offset, bytes) -> bytes that are stored once from now on
ShareRange = Callable[[int, int, int, int, int], int]


class Stored(NamedTuple):
    """Where a tensor's bytes are."""

    path: Path
    offset: int
    bytes: int


class Header(NamedTuple):
    """What a weights file says of itself; the same header over the same bytes is the same file."""

    digest: bytes
    file_bytes: int
    # by digest
    tensors: dict[str, Stored]


class SharedWeights:
    """The weights files under one folder, as far as this process has looked at them."""

    def __init__(self, folder: Path, share_range: ShareRange | None = None) -> None:
        self._folder = folder
        self._share_range = share_range or share_blocks
        self._headers: dict[Path, Header] = {}
        self._tensors: dict[str, Stored] = {}
        self._can_share = True
        self._lock = threading.Lock()

    def share(self, path: Path) -> int:
        """Let a checked file, not yet in its place, take from others; the bytes that it saved.

        Nothing depends on it: what cannot be shared is stored again.
        """
        try:
            with self._lock:
                self._look(path.name)
                header = read_header(path)
                saved_bytes = self._link(path, header) or self._share_tensors(path, header)
        except OSError as error:
            log.warning("weights_not_shared", reason=error)
            return 0
        if saved_bytes:
            log.info("weights_shared", bytes=saved_bytes, of=header.file_bytes)
        return saved_bytes

    def remove(self, path: Path) -> None:
        """Remove a file whose artifact goes.

        The number of its links is a part of its state: who keeps one is noted anew as accepted.
        """
        with self._lock:
            linked = []
            if path.stat().st_nlink > 1:
                self._look(path.name)
                linked = [other for other in self._headers if _is_accepted_link(other, path)]
            path.unlink()
            for other in linked:
                note_accepted(other, file_state(other))

    def _look(self, name: str) -> None:
        """Read the headers of what has come since, and forget what has gone."""
        stored = {each / name for each in self._folder.iterdir() if not each.name.startswith(".")}
        gone, come = self._headers.keys() - stored, stored - self._headers.keys()
        for path in gone:
            del self._headers[path]
        for path in come:
            try:
                header = read_header(path)
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                log.warning("header_not_read", path=path, reason=error)
                header = Header(b"", 0, {})  # removed meanwhile, or broken: nobody's lender
            self._headers[path] = header
        if gone or come:
            # what one of them had, others may have still
            self._tensors = {d: t for its in self._headers.values() for d, t in its.tensors.items()}

    def _link(self, path: Path, header: Header) -> int:
        """Make it a link to a file that is the same; 0 where there is none."""
        for other, its in self._headers.items():
            if its[:2] == header[:2] and is_as_accepted(path) and _is_linked(path, other):
                return header.file_bytes
        return 0

    def _share_tensors(self, path: Path, header: Header) -> int:
        saved_bytes = 0
        with path.open("r+b") as file:
            for digest, (_, offset, size) in header.tensors.items():
                lender = self._tensors.get(digest)
                if not self._can_share or lender is None or lender.bytes != size:
                    continue
                try:
                    saved_bytes += self._share_tensor(file.fileno(), offset, lender)
                except FileNotFoundError:
                    continue  # the lender was removed meanwhile
                except OSError as error:
                    log.info("blocks_cannot_be_shared", reason=error)
                    self._can_share = False
        return saved_bytes

    def _share_tensor(self, file: int, offset: int, lender: Stored) -> int:
        """Share the whole blocks of one tensor, where they begin alike in both files."""
        gap = -offset % BLOCK_BYTES
        length = (lender.bytes - gap) // BLOCK_BYTES * BLOCK_BYTES
        if (lender.offset + gap) % BLOCK_BYTES:
            return 0
        done = 0
        with lender.path.open("rb") as other:
            while done < length:
                at, most = gap + done, min(MOST_BYTES, length - done)
                shared = self._share_range(
                    other.fileno(), lender.offset + at, file, offset + at, most
                )
                if not shared:  # what lies on the disk differs
                    break
                done += shared
                time.sleep(0)  # other requests have their turn
        return done


def share_blocks(source: int, offset: int, target: int, target_offset: int, length: int) -> int:
    """Have `target` refer to the blocks of `source` where bytes are equal; of how many bytes.

    Raises OSError where the file system cannot.
    """
    asked = bytearray(_RANGE.pack(offset, length, 1, 0, 0, target, target_offset, 0, 0, 0))
    fcntl.ioctl(source, FIDEDUPERANGE, asked)
    *_, shared_bytes, status, _ = _RANGE.unpack(asked)
    if status < 0:
        raise OSError(-status, os.strerror(-status))
    return int(shared_bytes) if status == 0 else 0


def read_header(path: Path) -> Header:
    """The header of a weights file that was checked when it came."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(_PREFIX_BYTES), "little")
        file_bytes = os.fstat(file.fileno()).st_size
        if size > file_bytes:
            raise ValueError(f"{path}: header of {size} bytes in a {file_bytes}-byte file")
        text = file.read(size)
    fields = orjson.loads(text)
    tensors = {}
    for key, digest in fields["__metadata__"].items():
        name = key.removeprefix(_DIGEST_KEY)
        if name != key and name in fields:
            begin, end = fields[name]["data_offsets"]
            if end - begin >= SHARED_BYTES:
                tensors[digest] = Stored(path, _PREFIX_BYTES + size + begin, end - begin)
    return Header(hashlib.sha256(text).digest(), file_bytes, tensors)


def _is_linked(path: Path, other: Path) -> bool:
    """Link a file that was just accepted to another, if it is the same; both are accepted then."""
    own = path.with_name(f"{path.name}.own")
    path.rename(own)
    try:
        path.hardlink_to(other)
        state = file_state(path)  # a write while they are compared would change it
        is_same = _is_same(own, path)
    except OSError as error:  # it was removed meanwhile, or has as many links as there can be
        log.info("weights_not_linked", reason=error)
        is_same = False
    if is_same:
        own.unlink()
        note_accepted(other, state)
    else:
        own.replace(path)
    note_accepted(path, state if is_same else file_state(path))
    return is_same


def _is_accepted_link(other: Path, path: Path) -> bool:
    try:
        return other.samefile(path) and is_as_accepted(other)
    except FileNotFoundError:  # its artifact goes as well
        return False


def _is_same(path: Path, other: Path) -> bool:
    with path.open("rb") as one, other.open("rb") as two:
        while block := one.read(2**20):
            if block != two.read(2**20):
                return False
            time.sleep(0)  # other requests have their turn
        return not two.read(1)
