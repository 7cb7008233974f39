"""Compressed bodies: read up to a bound, and written as clients like them."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import MalformedBody, PayloadTooLarge, UnsupportedMediaType
from gateway.v2.encodings import accepted, deflated, inflated

LIMIT = 1000


@given(st.binary(max_size=LIMIT), st.sampled_from(["gzip", "deflate"]))
def test_what_was_compressed_is_read_again(body: bytes, encoding: str) -> None:
    """By ourselves and by the libraries of clients."""
    assert body == inflated(encoding, deflated(encoding, body), LIMIT)
    theirs = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    assert body == inflated(encoding.upper(), theirs, LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_before_it_is_there(encoding: str) -> None:
    """A body within the limit that becomes a thousand times as large."""
    bomb = deflated(encoding, bytes(10**8))
    with pytest.raises(PayloadTooLarge, match=f"at most {10**6} bytes"):
        inflated(encoding, bomb, 10**6)


@given(st.binary(max_size=60), st.sampled_from(["gzip", "deflate"]))
def test_other_bytes_are_refused(body: bytes, encoding: str) -> None:
    """Not of this format, broken off, or with something behind."""
    whole = deflated(encoding, b"content")
    for wrong in (whole[:-1], whole + b"x"):
        with pytest.raises(MalformedBody):
            inflated(encoding, wrong, LIMIT)
    try:
        inflated(encoding, body, LIMIT)
    except MalformedBody:
        return
    # random bytes that are a whole stream
    assert body[:2] in (b"\x1f\x8b", b"\x78\x9c", b"\x78\x01") or encoding == "deflate"


def test_unknown_encodings_are_refused_and_none_is_none() -> None:
    """`br` is not read here."""
    with pytest.raises(UnsupportedMediaType, match="'br'"):
        inflated("br", b"", LIMIT)
    assert inflated("identity", b"as it is", 1) == b"as it is"


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("gzip;q=0", ""),
        ("identity", ""),
        ("br", ""),
        ("", ""),
        (";;;,,,=", ""),
    ],
)
def test_the_encoding_that_a_client_likes_best_is_used(header: str, encoding: str) -> None:
    """Of those we write."""
    assert accepted(header) == encoding
