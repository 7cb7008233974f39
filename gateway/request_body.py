"""Reading what a request carries: whole or part by part, never more than is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.wsgi import get_input_stream

from contract.errors import MalformedBody, PayloadTooLarge, RequestTimeout
from gateway.tar import READ_BYTES, Read

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def read_body(environ: WSGIEnvironment, max_bytes: int) -> bytes:
    """The whole body; raises PayloadTooLarge, MalformedBody and RequestTimeout."""
    read = body_reader(environ, max_bytes)
    length = environ.get("CONTENT_LENGTH") or ""
    if not length.isdigit():
        # chunked: how long it is shows at its end
        return _read_chunked(read, max_bytes)
    body = read(int(length))
    if len(body) != int(length):
        raise MalformedBody(f"body: expected {length} bytes, got {len(body)}")
    return body


def _read_chunked(read: Read, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = max_bytes
    while part := read(min(left, READ_BYTES) + 1):
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise _too_large(max_bytes)
    return b"".join(parts)


def body_reader(environ: WSGIEnvironment, max_bytes: int) -> Read:
    """Reads the body; raises MalformedBody where it ends early or its chunks are broken."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes, f", this one has {length}")
    # as it is from our own server; ended at its length from those that leave that to the reader
    read_input = get_input_stream(environ).read

    def read(size: int) -> bytes:
        try:
            data: bytes = read_input(size)
        except TimeoutError as error:
            raise RequestTimeout(f"body: {error}") from error
        except (OSError, ValueError) as error:
            raise MalformedBody(
                f"body: it breaks off or its chunks are broken ({error})"
            ) from error
        return data

    return read


def _too_large(max_bytes: int, actual: str = "") -> PayloadTooLarge:
    return PayloadTooLarge(f"body: expected at most {max_bytes} bytes{actual}")
