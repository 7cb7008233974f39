"""API keys: how they are made, written and shown."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.access import ApiKey, Scope, Token, Wish, mint
from contract.errors import InvalidInput

WISHES = st.builds(
    Wish,
    st.text(st.characters(categories=("L", "N", "P")), max_size=100),
    st.lists(st.sampled_from([str(scope) for scope in Scope]), min_size=1),
    st.sampled_from(["", "1/second", "100/minute", "999999999/day"]),
    st.none() | st.floats(0.1, 1e8),
)


@given(WISHES)
def test_a_key_is_read_back_as_it_was_made(wish: Wish) -> None:
    """And its token opens it, while neither what is stored nor what is shown holds the secret."""
    key, token = mint(wish)
    assert ApiKey.decode(key.encode()) == key
    assert Token.parse(token.text) == token
    assert key.is_opened_by(token.secret)
    assert not key.is_opened_by(token.secret[::-1] + "x")
    assert token.secret not in key.encode().decode() + str(key.shown(time.time()))
    assert token.secret not in repr(key)


@given(WISHES, st.none() | st.sampled_from(Scope))
def test_a_key_may_what_its_scopes_say(wish: Wish, scope: Scope | None) -> None:
    """admin implies all; every key may what needs none."""
    key, _ = mint(wish)
    expected = scope is None or scope in wish.scopes or Scope.ADMIN in wish.scopes
    assert key.can(scope) == expected


@given(st.text(max_size=120))
def test_any_text_is_a_token_or_none(text: str) -> None:
    """What is one reads back as the same text."""
    token = Token.parse(text)
    assert token is None or token.text == text


def test_two_keys_share_nothing() -> None:
    """Ids and secrets are random."""
    (one, first), (other, second) = mint(Wish()), mint(Wish())
    assert one.id != other.id
    assert first.secret != second.secret


def test_a_key_ends_at_its_moment() -> None:
    """Not before; without one it never does."""
    key, _ = mint(Wish(expires_in_s=60))
    end_s = key.created_at_s + 60
    assert [key.is_expired(end_s - 0.001), key.is_expired(end_s)] == [False, True]
    assert not mint(Wish())[0].is_expired(1e12)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(rate="1/week"),
        Wish(rate="-1/second"),
        Wish(rate="1 / second"),
        Wish(scopes=()),
        Wish(scopes=("Invoke",)),
        Wish(name="\x1b[2J"),
        Wish(expires_in_s=float("nan")),
        Wish(expires_in_s=float("inf")),
    ],
)
def test_a_wish_that_cannot_be_is_refused(wish: Wish) -> None:
    """The error names the field."""
    with pytest.raises(InvalidInput) as caught:
        mint(wish)
    assert caught.value.extensions["field"] in Wish._fields
