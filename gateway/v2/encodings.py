"""Bodies that are compressed: `gzip`, and `deflate`, which is the zlib format (RFC 9110)."""

from __future__ import annotations

import zlib
from functools import lru_cache

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from contract.errors import MalformedBody, PayloadTooLarge, UnsupportedMediaType

GZIP, DEFLATE, IDENTITY = "gzip", "deflate", "identity"
_WBITS = {GZIP: 31, DEFLATE: 15}
# Answers below this would become no smaller that it matters.
LEAST_BYTES = 1024
# Tensors hardly become smaller at higher levels, and take several times as long.
LEVEL = 1
# Headers come from clients: remember some, never all.
REMEMBERED = 256


def inflated(encoding: str, body: bytes, max_bytes: int) -> bytes:
    """The body as it was before it was compressed.

    Raises MalformedBody, UnsupportedMediaType, and PayloadTooLarge before more than `max_bytes`
    are made of it.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", IDENTITY):
        return body
    wbits = _WBITS.get(encoding)
    if wbits is None:
        raise UnsupportedMediaType(
            f"Content-Encoding: expected gzip, deflate or identity, got {encoding[:100]!r}"
        )
    reader = zlib.decompressobj(wbits)
    try:
        found = reader.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise MalformedBody(f"body: not {encoding} ({error})") from error
    if len(found) > max_bytes:
        raise PayloadTooLarge(f"body: expected at most {max_bytes} bytes when inflated")
    if not reader.eof:
        raise MalformedBody(f"body: its {encoding} breaks off")
    if reader.unused_data:
        raise MalformedBody(
            f"body: {len(reader.unused_data)} bytes after the end of its {encoding}"
        )
    return found


@lru_cache(REMEMBERED)
def accepted(header: str) -> str:
    """The encoding that `Accept-Encoding` likes best: gzip, deflate, or "" for none."""
    wanted = parse_accept_header(header, Accept)
    best = wanted.best_match([GZIP, DEFLATE, IDENTITY])
    return best if best in _WBITS else ""


def deflated(encoding: str, body: bytes) -> bytes:
    """The body, compressed."""
    writer = zlib.compressobj(LEVEL, zlib.DEFLATED, _WBITS[encoding])
    return writer.compress(body) + writer.flush()
