"""Prefer and Accept, as clients write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InvalidInput, NotAcceptable
from gateway.answer import JSON
from gateway.preferences import MSGPACK, NPY, NPZ, Prefer, negotiate, parse_prefer, parse_priority

OFFERED = (JSON, MSGPACK, NPZ, NPY)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("respond-async", Prefer(True, None)),
        ("RESPOND-ASYNC", Prefer(True, None)),
        ("wait=2", Prefer(False, 2.0)),
        ('wait="2"', Prefer(False, 2.0)),
        ("respond-async, wait=0", Prefer(True, 0.0)),
        ("wait=1, wait=2", Prefer(False, 1.0)),
        ("wait=1; strict", Prefer(False, 1.0)),
        ("wait=1e9", Prefer(False, 60.0)),
        ("return=minimal, handling=lenient", Prefer()),
        ("wait", Prefer()),
        ("wait=-1", Prefer()),
        ("wait=nan", Prefer()),
        ("wait=inf", Prefer()),
    ],
)
def test_known_preferences_are_read_and_others_ignored(header: str, expected: Prefer) -> None:
    """RFC 7240: the first of two counts, what is not understood is as if it were not there."""
    assert expected == parse_prefer(header, 60.0)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=80))
def test_no_prefer_header_is_an_error(header: str) -> None:
    """Whatever a client sends, the wait is within bounds."""
    wait_s = parse_prefer(header, 60.0).wait_s
    assert wait_s is None or 0 <= wait_s <= 60


def test_the_applied_preferences_are_named() -> None:
    """Preference-Applied says what was used, with the wait as it was bounded."""
    assert parse_prefer("wait=99, respond-async", 60.0).applied() == "respond-async, wait=60"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (MSGPACK, MSGPACK),
        ("application/json;q=0.5, application/x-npz", NPZ),
        ("text/html, application/x-npy;q=0.1", NPY),
    ],
)
def test_the_type_liked_best_is_chosen(accept: str, expected: str) -> None:
    """RFC 9110: by quality, then by our order."""
    assert expected == negotiate(accept, OFFERED)


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*"])
def test_a_type_that_does_not_exist_is_refused(accept: str) -> None:
    """406, naming what exists."""
    with pytest.raises(NotAcceptable, match="application/json"):
        negotiate(accept, (JSON, MSGPACK))


def test_a_priority_is_one_digit() -> None:
    """Anything else is refused with what was expected."""
    assert [parse_priority(str(n)) for n in range(10)] == [*range(10)]
    for header in ("", "-1", "10", "1.0", "high", "\N{SUPERSCRIPT TWO}"):
        with pytest.raises(InvalidInput, match=r"Fusebox-Priority: expected .* 0 to 9"):
            parse_priority(header)
