"""When requests are sent again."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InvalidInput
from deploy.client import NEVER, Retries
from deploy.client.answers import retry_after_s

seconds = st.floats(0, 100)
draws = st.floats(0, 1)
rules = st.builds(Retries, st.integers(1, 2000), seconds, seconds, st.floats(0, 1000))


@given(rules, st.integers(1, 3000), seconds, draws, st.none() | seconds)
def test_a_pause_is_within_all_bounds(
    rule: Retries, attempt: int, elapsed_s: float, draw: float, after_s: float | None
) -> None:
    """Neither before the platform wants it, nor longer than needed, nor after the end."""
    pause_s = rule.pause_s(attempt, elapsed_s, draw, after_s)
    if pause_s is None:
        return
    assert attempt < rule.attempts
    assert elapsed_s + pause_s <= rule.total_s
    assert (after_s or 0.0) <= pause_s <= max(rule.most_s, (after_s or 0.0) + rule.first_s)


@given(rules, draws)
def test_every_rule_comes_to_an_end(rule: Retries, draw: float) -> None:
    """After its attempts or its time."""
    elapsed_s = 0.0
    for attempt in count(1):
        pause_s = rule.pause_s(attempt, elapsed_s, draw)
        if pause_s is None:
            break
        elapsed_s += pause_s
    assert attempt <= rule.attempts
    assert elapsed_s <= rule.total_s


@given(draws)
def test_pauses_double_and_half_of_each_is_chance(draw: float) -> None:
    """Up to the longest."""
    rule = Retries(attempts=6, first_s=1.0, most_s=4.0)
    shares = [(1 + draw) / 2 * backoff_s for backoff_s in (1.0, 2.0, 4.0, 4.0, 4.0)]
    assert [*shares, None] == [rule.pause_s(attempt, 0.0, draw) for attempt in range(1, 7)]


def test_never_is_once() -> None:
    """Whatever the platform asks for."""
    assert NEVER.pause_s(1, 0.0, 0.5, 0.0) is None


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"first_s": -1.0}, {"most_s": float("nan")}, {"total_s": 1e999}]
)
def test_a_rule_without_sense_is_refused_by_name(wrong: dict[str, float]) -> None:
    """With what was expected."""
    with pytest.raises(InvalidInput, match=f"retries.{next(iter(wrong))}: expected"):
        Retries(**wrong)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("header", "date", "expected"),
    [
        ("3", "", 3.0),
        (" 120 ", "", 120.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:07 GMT", 30.0),
        ("Sun, 06 Nov 1994 08:49:07 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "yesterday", None),
        ("", "Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("-1", "", None),
        ("soon", "Sun, 06 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_moment(
    header: str, date: str, expected: float | None
) -> None:
    """RFC 9110; a moment counts from the answer's own Date, so clocks need not agree."""
    assert expected == retry_after_s(header, date)


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_stands_in_a_header_is_no_error(header: str, date: str) -> None:
    """Others write them."""
    found = retry_after_s(header, date)
    assert found is None or found >= 0
