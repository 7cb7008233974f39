"""GET /v1/artifacts/<digest>.tar, whole or in ranges: for workers on other machines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from contract.errors import NotFound
from gateway.context import Gateway
from gateway.packed import open_packed

TAR = "application/x-tar"
_NAME = re.compile(r"([0-9a-f]{64})\.tar")
# RFC 9110, 14.1.2; one range with a beginning is all that those who fetch ask for
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")


class Stream(NamedTuple):
    """An answer whose body is read while it is sent."""

    status: int
    headers: list[tuple[str, str]]
    body: Iterable[bytes]


def hand_out(gateway: Gateway, name: str, wanted: str) -> Stream:
    """The artifact as it was deployed; `wanted` is the Range header or ""."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise NotFound(f"artifact: expected <64 hexadecimal digits>.tar, got {name[:100]!r}")
    packed = open_packed(gateway.settings.artifacts, found[1])
    size = packed.size_bytes
    headers = [
        ("Content-Type", TAR),
        ("Accept-Ranges", "bytes"),
        ("ETag", f'"{found[1]}"'),
        ("Cache-Control", "private, immutable, max-age=31536000"),
    ]
    asked = _RANGE.fullmatch(wanted.strip())
    if asked is None:
        return Stream(200, [*headers, ("Content-Length", str(size))], packed.read(0, size))
    start = int(asked[1])
    end = min(size, int(asked[2]) + 1) if asked[2] else size
    if start >= end:
        return Stream(416, [("Content-Range", f"bytes */{size}"), ("Content-Length", "0")], ())
    headers += [
        ("Content-Range", f"bytes {start}-{end - 1}/{size}"),
        ("Content-Length", str(end - start)),
    ]
    return Stream(206, headers, packed.read(start, end))
