"""An uncompressed tar, read strictly from a stream that cannot seek.

Artifacts come from anybody. `tarfile` reads extended headers of any size into memory and, in
versions still in use, loops forever on a negative size (CVE-2025-8194); it also knows links,
devices and sparse files, of which an artifact has none. Format: POSIX.1-1988 ustar, with pax
`path` and `size` records and GNU base-256 sizes, as `tarfile` writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK_BYTES = 512
# pax records of an artifact hold a path and a size
MAX_PAX_BYTES = 64 * 1024
READ_BYTES = 2**20

Read = Callable[[int], bytes]


class TarError(ValueError):
    """The bytes are not the plain tar that an artifact is."""


class Member(NamedTuple):
    """A regular file; its chunks must be consumed before the next member is asked for."""

    name: str
    size_bytes: int
    chunks: Iterator[bytes]


def members(read: Read) -> Iterator[Member]:
    """The files of a tar; raises TarError for anything but regular files.

    `read(n)` gives up to n bytes, and none only at the end.
    """
    pax: dict[str, str] = {}
    while True:
        header = _exactly(read, BLOCK_BYTES)
        if not any(header):
            return
        _check_sum(header)
        kind, size = header[156:157], _number(header[124:136], "size")
        if kind == b"x":
            if size > MAX_PAX_BYTES:
                raise TarError(f"a pax header of {size} bytes")
            pax = _pax_records(_padded(read, size))
            continue
        if kind not in (b"0", b"\0"):
            raise TarError(f"a member of type {kind.decode('latin-1')!r}, not a regular file")
        name = pax.get("path") or _name(header)
        if "size" in pax:
            size = _decimal(pax["size"])
        pax = {}
        left = _Chunks(read, size)
        yield Member(name, size, iter(left))
        assert left.left_bytes == 0, "the member was not consumed"
        _exactly(read, -size % BLOCK_BYTES)


class _Chunks:
    """The data of one member."""

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read = read
        self.left_bytes = size_bytes

    def __iter__(self) -> Iterator[bytes]:
        while self.left_bytes:
            chunk = self._read(min(self.left_bytes, READ_BYTES))
            if not chunk:
                raise TarError("the tar ends inside a file")
            self.left_bytes -= len(chunk)
            yield chunk


def _exactly(read: Read, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = read(size)
        if not part:
            raise TarError("the tar ends too early")
        size -= len(part)
        parts.append(part)
    return b"".join(parts)


def _padded(read: Read, size: int) -> bytes:
    return _exactly(read, size + -size % BLOCK_BYTES)[:size]


def _check_sum(header: bytes) -> None:
    summed = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if _number(header[148:156], "checksum") != summed:
        raise TarError("a header whose checksum is wrong")


def _number(field: bytes, name: str) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0")[0].strip()
    try:
        number = int(text or b"0", 8)
    except ValueError:
        number = -1
    if number < 0:
        raise TarError(f"a header whose {name} is not a number")
    return number


def _decimal(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise TarError("a pax size that is not a number")
    return int(text)


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0")[0]
    is_ustar = header[257:263] == b"ustar\0"
    prefix = header[345:500].split(b"\0")[0] if is_ustar else b""
    return _text(prefix + b"/" + name if prefix else name)


def _pax_records(data: bytes) -> dict[str, str]:
    """Records of `<length> <key>=<value>\\n`."""
    records: dict[str, str] = {}
    while data:
        digits, space, _ = data.partition(b" ")
        length = _decimal(_text(digits)) if space else 0
        record = data[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if length > len(data) or not equals or not value.endswith(b"\n"):
            raise TarError("a pax header that cannot be read")
        records[_text(key)] = _text(value[:-1])
        data = data[length:]
    return records


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise TarError("a name that is not UTF-8") from error
