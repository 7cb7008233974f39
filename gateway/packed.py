"""An unpacked artifact as the tar it came as, byte for byte, without a second copy of its files.

What of a tar is not in its files, headers and padding, is kept beside them in `layout`. The digest
of an artifact is that of its tar, so whoever gets the tar can check it against what the store says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgpack

from contract.errors import NotFound
from gateway.tar import READ_BYTES, Read, TarError

# in the folder of an artifact; no member of an artifact has this name
LAYOUT = "layout"
# headers of the most files there may be take less than half of it
MAX_LAYOUT_BYTES = 4 * 2**20


class Span(NamedTuple):
    """The bytes of one file."""

    name: str
    size_bytes: int


class Recorder:
    """Passes a tar on as it is read, and keeps what is not in its files."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._parts: list[bytes | Span] = []
        self._between = bytearray()
        self._is_inside = False

    def read(self, size: int) -> bytes:
        """Up to so many bytes; raises TarError where there is too much besides files."""
        data = self._read(size)
        if not self._is_inside:
            self._between += data
            if len(self._between) + len(self._parts) > MAX_LAYOUT_BYTES:
                raise TarError(f"more than {MAX_LAYOUT_BYTES} bytes that are in no file")
        return data

    @contextmanager
    def inside(self, name: str, size_bytes: int) -> Iterator[None]:
        """What is read meanwhile is this file, and nothing else."""
        self._close()
        self._parts.append(Span(name, size_bytes))
        self._is_inside = True
        yield
        self._is_inside = False

    def write(self, folder: Path) -> None:
        """Keep the layout beside the files."""
        self._close()
        packed = msgpack.packb(self._parts)
        assert isinstance(packed, bytes)
        (folder / LAYOUT).write_bytes(packed)

    def _close(self) -> None:
        if self._between:
            self._parts.append(bytes(self._between))
            self._between.clear()


class Packed(NamedTuple):
    """The tar of an artifact in this folder."""

    folder: Path
    parts: tuple[bytes | Span, ...]

    @property
    def size_bytes(self) -> int:
        """Of the whole tar."""
        return sum(_size(part) for part in self.parts)

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end`, the last one not among them; raises OSError."""
        offset = 0
        for part in self.parts:
            low, high = max(start - offset, 0), min(end - offset, _size(part))
            offset += _size(part)
            if low >= high:
                continue
            if isinstance(part, bytes):
                yield part[low:high]
            else:
                yield from _read_file(self.folder / part.name, low, high)


def open_packed(artifacts: Path, digest: str) -> Packed:
    """The artifact with this digest; raises NotFound."""
    folder = artifacts / digest
    try:
        parts = msgpack.unpackb((folder / LAYOUT).read_bytes())
    except FileNotFoundError as error:
        kept = "it was deployed before artifacts were handed out; deploy it again"
        why = kept if folder.is_dir() else "there is none"
        raise NotFound(f"artifact {digest}: {why}") from error
    return Packed(folder, tuple(p if isinstance(p, bytes) else Span(*p) for p in parts))


def _size(part: bytes | Span) -> int:
    return len(part) if isinstance(part, bytes) else part.size_bytes


def _read_file(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        left = end - start
        while left:
            data = file.read(min(left, READ_BYTES))
            if not data:
                raise OSError(f"{path.name}: shorter than when it came")
            left -= len(data)
            yield data
            time.sleep(0)  # other requests have their turn
