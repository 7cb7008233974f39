"""What a client sends after its headers: read within a time limit, and given up where it is broken.

pywsgi waits for a body without end, reads on for as long as a refused body lasts, and goes on with
a connection whose chunks could not be read, where the rest of a body becomes the next request.
"""

from __future__ import annotations

from contextlib import suppress

from gevent import Timeout
from gevent.pywsgi import Input

# A client whose connection is slower than this many bytes in its time limit is given up.
BLOCK_BYTES = 64 * 1024
# What is left of a body that nobody wanted is read up to this; beyond it the connection closes.
REST_BYTES = 64 * 1024
# A refusal gets lost if its connection is closed while the client still sends.
LINGER_S = 5.0


class ClientInput(Input):  # type: ignore[misc]  # gevent is untyped
    """A request's body; raises OSError or ValueError where it is broken, TimeoutError if slow."""

    __slots__ = ("is_broken", "limit_s")
    is_broken: bool
    limit_s: float
    # pywsgi's
    content_length: int | None
    chunk_length: int
    position: int

    def begin(self, limit_s: float) -> None:
        """Allow this many seconds for every BLOCK_BYTES."""
        self.limit_s = limit_s
        self.is_broken = False

    @property
    def must_close(self) -> bool:
        """Whether the next request cannot be found, or only behind too much of this one."""
        if self.is_broken:
            return True
        if self.chunked_input:
            return self.chunk_length != 0
        rest_bytes = (self.content_length or 0) - self.position
        # who has not been told to go on may never send it
        is_held_back = self.socket is not None
        return rest_bytes > (0 if is_held_back else REST_BYTES)

    def read(self, length: int | None = None) -> bytes:
        """Up to `length` bytes, or all; fewer only at the end."""
        parts: list[bytes] = []
        left = length if length is not None and length >= 0 else None
        while left is None or left > 0:
            want = BLOCK_BYTES if left is None else min(left, BLOCK_BYTES)
            part = self._block(want)
            parts.append(part)
            if len(part) < want:
                break
            left = None if left is None else left - want
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _block(self, size: int) -> bytes:
        try:
            with Timeout(self.limit_s, TimeoutError(f"{size} bytes in {self.limit_s:g} s")):
                part: bytes = super().read(size)
        except (OSError, ValueError):
            self.is_broken = True
            raise
        return part

    def _discard(self) -> None:
        """Read what the application left; pywsgi calls it after the answer."""
        if self.is_broken or (self.socket is not None and self.must_close):
            return
        # whatever goes wrong now, the client has its answer: the connection ends, no more
        self.is_broken = True
        with Timeout(LINGER_S, False), suppress(OSError, ValueError):
            while super().read(BLOCK_BYTES):
                pass
            self.is_broken = False
