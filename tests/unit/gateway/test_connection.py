"""Header fields of requests: what two readers could understand in two ways is refused."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.connection import MAX_FIELDS, MAX_LINE_BYTES, Headers


def read(text: bytes) -> Headers:
    """The fields of a request."""
    return Headers(io.BytesIO(text))


def test_fields_are_found_whatever_their_case() -> None:
    """And their values come without the spaces around them."""
    headers = read(b"Host: a\r\ncontent-TYPE:  text/plain \r\nX-Y:\r\n\r\nbody")
    assert headers.get("HOST") == "a"
    assert headers.typeheader == "text/plain"
    assert headers.get("x-y") == ""
    assert headers.get("no", "default") == "default"
    assert len(headers.headers) == 3


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Host: a",
        b"Host: a\r\n",
        b"Host\r\n\r\n",
        b": a\r\n\r\n",
        b"Host : a\r\n\r\n",
        b"Host: a\r\n folded\r\n\r\n",
        b"Host: a\r\nHost: b\r\n\r\n",
        b"A: b\rC: d\r\n\r\n",
        b"A: \0\r\n\r\n",
        b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: +1\r\n\r\n",
        b"Content-Length: 1, 1\r\n\r\n",
        b"Content-Length: \xb2\r\n\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n",
        b"A: " + b"b" * MAX_LINE_BYTES + b"\r\n\r\n",
    ],
)
def test_what_is_ambiguous_or_too_large_is_refused(text: bytes) -> None:
    """ValueError becomes 400, and the connection closes."""
    with pytest.raises(ValueError, match=r".+"):
        read(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    """Nothing else comes out."""
    try:
        headers = read(text)
    except ValueError:
        return
    assert all(":" in line for line in headers.headers)
