"""Idempotency keys: how they are written, and which requests are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import RequestError
from contract.function import FunctionRef
from gateway.idempotency import MAX_KEY_CHARS, claim_of, parse_key

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)
REQUESTS = st.tuples(
    st.sampled_from(["", "0123456789ab"]),
    st.sampled_from(["a", "b", "a\\"]),
    st.sampled_from([FunctionRef("f"), FunctionRef("f", 1), FunctionRef("g")]),
    st.sampled_from(["", "application/json"]),
    st.sampled_from([b"", b"{}", b"[]"]),
)


@given(PRINTABLE)
def test_every_string_of_the_standard_is_a_key(key: str) -> None:
    """RFC 9651: printable ASCII in quotes, with quotes and backslashes escaped."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_key(f'"{escaped}"') == key


@given(st.text(max_size=300))
def test_any_header_is_a_key_or_refused(header: str) -> None:
    """Nothing but a RequestError comes out, and no key is empty or too long."""
    try:
        key = parse_key(header)
    except RequestError:
        return
    assert 0 < len(key) <= MAX_KEY_CHARS


@pytest.mark.parametrize("header", ['"' + "k" * (MAX_KEY_CHARS + 1) + '"', r'"\n"', '"\x7f"', "k"])
def test_what_is_no_string_or_too_long_is_refused(header: str) -> None:
    """The message shows what came, cut."""
    with pytest.raises(RequestError, match="Idempotency-Key: expected a quoted string"):
        parse_key(header)


@given(REQUESTS, REQUESTS)
def test_requests_are_the_same_where_all_of_them_is(one: tuple, other: tuple) -> None:  # type: ignore[type-arg]
    """The digest is caller, function and key; the fingerprint version, type and body."""
    first, second = claim_of(*one), claim_of(*other)
    (caller, key, ref, *rest), (caller2, key2, ref2, *rest2) = one, other
    is_same_key = (caller, key, ref.name) == (caller2, key2, ref2.name)
    assert (first.digest == second.digest) == is_same_key
    assert (first.fingerprint == second.fingerprint) == ([ref, *rest] == [ref2, *rest2])
    assert len(first.text) == 128
