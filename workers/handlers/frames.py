"""Messages between a worker and its handler hosts: 4 bytes of length, then msgpack."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgpack

_LENGTH = struct.Struct("<I")
RECEIVE_BYTES = 1 << 18
# A line of output that begins with this tells which item of the batch the next lines belong to.
MARK = "\0"


class FrameError(Exception):
    """What came is not a message; the connection is of no more use."""


def pack_frame(message: Any) -> bytes:
    """A message as it travels; raises ValueError above 4 GiB."""
    packed = msgpack.packb(message)
    if len(packed) >= 1 << 32:
        raise ValueError(f"a message of {len(packed)} bytes; at most {1 << 32} fit a frame")
    return _LENGTH.pack(len(packed)) + bytes(packed)


def receive(channel: socket.socket) -> Any:
    """The next message of a blocking socket; None at its end."""
    prefix = _receive_exactly(channel, _LENGTH.size)
    if prefix is None:
        return None
    body = _receive_exactly(channel, _LENGTH.unpack(prefix)[0])
    return None if body is None else _unpack(body)


class FrameReader:
    """Cuts a stream of bytes into messages of at most `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that are complete now; raises FrameError, after those that came before."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > self._limit_bytes:
                raise FrameError(f"a message of {length} bytes; at most {self._limit_bytes} pass")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            message = _unpack(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
            yield message


def _unpack(body: bytes | bytearray) -> Any:
    try:
        return msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise FrameError(f"not msgpack: {error}") from error


def _receive_exactly(channel: socket.socket, count: int) -> bytearray | None:
    data = bytearray(count)
    view = memoryview(data)
    got = 0
    while got < count:
        received = channel.recv_into(view[got:])
        if not received:
            return None
        got += received
    return data
