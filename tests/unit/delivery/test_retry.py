"""When a delivery is tried again: a pure policy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.retry import (
    MAX_BACKOFF_S,
    MAX_RETRY_AFTER_S,
    Attempt,
    Policy,
    delay_s,
    is_retryable,
    next_try_s,
    parse_retry_after,
)

POLICIES = st.builds(Policy, st.integers(1, 100), st.floats(0.001, 1e6))
CHANCES = st.floats(0, 1)
ATTEMPTS = st.integers(1, 10_000)


@given(POLICIES, ATTEMPTS, CHANCES)
def test_waits_are_bounded_and_half_certain(policy: Policy, count: int, chance: float) -> None:
    """At least half of the backoff, at most all of it, never more than the bound."""
    backoff_s = min(policy.backoff_s * 2.0 ** min(count - 1, 30), MAX_BACKOFF_S)
    assert backoff_s / 2 <= delay_s(policy, count, None, chance) <= backoff_s <= MAX_BACKOFF_S


@given(POLICIES, ATTEMPTS, CHANCES)
def test_waits_grow_with_attempts(policy: Policy, count: int, chance: float) -> None:
    """By the same chance no attempt comes sooner than the one before."""
    assert delay_s(policy, count, None, chance) <= delay_s(policy, count + 1, None, chance)


@given(POLICIES, ATTEMPTS, CHANCES, st.floats(0, 1e12))
def test_a_receiver_may_ask_for_more_time_within_a_bound(
    policy: Policy, count: int, chance: float, after_s: float
) -> None:
    """Never for less than the backoff."""
    plain_s = delay_s(policy, count, None, chance)
    asked_s = delay_s(policy, count, after_s, chance)
    assert asked_s == max(plain_s, min(after_s, MAX_RETRY_AFTER_S))


@given(POLICIES, st.integers(1, 200), CHANCES, st.integers(100, 599))
def test_what_is_tried_again(policy: Policy, count: int, chance: float, status: int) -> None:
    """Only what may go better, only so often, and always later than now."""
    attempt = Attempt(status, "answered something")
    again_s = next_try_s(policy, count, attempt, 1000.0, chance)
    retried = status in (404, 408, 409, 429) or status >= 500
    assert is_retryable(attempt) == retried
    assert (again_s is not None) == (retried and count < policy.attempts)
    assert again_s is None or again_s > 1000.0


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (Attempt(error="no answer within 10 s"), True),
        (Attempt(error="refused", is_lasting=True), False),
        (Attempt(410, "gone"), False),
        (Attempt(302, "moved"), False),
    ],
)
def test_ends_without_a_status(attempt: Attempt, expected: bool) -> None:
    """A time-out may pass; a refused address, a redirect and 410 do not."""
    assert is_retryable(attempt) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9" * 30, None),
        ("", None),
        ("\u0661", None),
    ],
)
def test_retry_after(header: str, expected: float | None) -> None:
    """Seconds or a date; whatever else it says is not heard."""
    assert parse_retry_after(header, 100.0) == expected


@given(st.text(max_size=40))
def test_any_retry_after_is_borne(header: str) -> None:
    """Receivers send what they like."""
    found = parse_retry_after(header, 1e9)
    assert found is None or found >= 0
