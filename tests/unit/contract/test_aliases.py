"""Aliases: what may be one, and which version a call goes to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.aliases import MAX_WEIGHT, Alias, make_alias, parse_alias
from contract.errors import InvalidInput

VERSIONS = st.lists(
    st.tuples(st.integers(1, 10**9 - 1), st.integers(1, MAX_WEIGHT)),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one[0],
).map(tuple)


@given(VERSIONS, st.lists(VERSIONS, max_size=3))
def test_an_alias_survives_its_encoding(versions, before) -> None:  # type: ignore[no-untyped-def]
    """With what it pointed at before."""
    alias = Alias("prod", versions, tuple(before))
    again = Alias.decode("prod", alias.encode())
    assert (again, again.before) == (alias, alias.before)
    assert parse_alias(f"prod={alias.text}").main == alias.main


@given(VERSIONS, st.text(max_size=20), st.floats(0, 1, exclude_max=True))
def test_a_sticky_key_decides_alone(versions, key, draw) -> None:  # type: ignore[no-untyped-def]
    """Repeats stay, and every choice is one of the versions."""
    alias = Alias("prod", versions)
    chosen = alias.choose(key, draw)
    assert chosen in dict(versions)
    if key:
        assert alias.choose(key, 1 - draw) == chosen


def test_draws_follow_the_weights() -> None:
    """Evenly spread draws hit each version in proportion."""
    alias = Alias("prod", ((3, 90), (4, 10)))
    drawn = [alias.choose("", k / 1000) for k in range(1000)]
    assert (drawn.count(3), drawn.count(4)) == (900, 100)


def test_a_growing_share_moves_only_keys_to_it() -> None:
    """Whoever had the new version keeps it."""
    keys = [f"user-{k}" for k in range(500)]
    few, more = Alias("prod", ((3, 90), (4, 10))), Alias("prod", ((3, 50), (4, 50)))
    had = {key for key in keys if few.choose(key, 0.0) == 4}
    has = {key for key in keys if more.choose(key, 0.0) == 4}
    assert 20 < len(had) < 90
    assert had < has


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "alias"),
        ("prod", "alias"),
        ("3=3", "alias"),
        ("latest=3", "alias"),
        ("a" * 64 + "=3", "alias"),
        ("prod=", "alias"),
        ("prod=0", "alias"),
        ("prod=x", "alias"),
        ("prod=3:0", "alias"),
        ("prod=3,4", "versions.3"),
        ("prod=3:99999", "versions.3"),
        ("prod=3:1,3:2", "versions"),
        ("prod=" + ",".join(f"{k}:1" for k in range(1, 10)), "versions"),
    ],
)
def test_what_is_no_alias_is_refused_by_name(text: str, field: str) -> None:
    """With the field that is wrong."""
    with pytest.raises(InvalidInput) as raised:
        parse_alias(text)
    assert raised.value.extensions["field"] == field


def test_one_version_needs_no_weight() -> None:
    """`prod=3` is all of it."""
    assert parse_alias("prod=3") == make_alias("prod", ((3, 1),))
    assert parse_alias("prod=3").text == "3"
