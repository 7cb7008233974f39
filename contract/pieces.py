"""Writing large files so that they are read fast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

# Where a file system has huge pages, what is written at once is kept in them, and so is there at
# once for whoever maps the file next. A whole number of them.
PIECE_BYTES = 8 * 2**20


class Writable(Protocol):
    """A file that takes all that it is given, as buffered files do."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int: ...


def write_in_pieces(file: Writable, chunks: Iterable[bytes]) -> None:
    """Write chunks of any size one behind the other, `PIECE_BYTES` at a time."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= PIECE_BYTES:
            with memoryview(held) as view:
                file.write(view[:PIECE_BYTES])
            del held[:PIECE_BYTES]
    file.write(held)
