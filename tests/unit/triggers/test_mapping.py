"""From an event to an input."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InvalidInput, PayloadTooLarge, RequestError
from gateway.triggers.event import Event
from gateway.triggers.mapping import check_expression, map_event

BYTES = 10_000
EVENT = Event("1", "/s", "t", value={"values": [[1, 2]], "n": 3}, more={"subject": "sub"})


def mapped(expression: str, event: Event = EVENT) -> Any:
    """What an expression makes of an event."""
    return json.loads(map_event(expression, event, BYTES))


def test_an_expression_sees_attributes_and_data() -> None:
    """Under the names that CloudEvents gives them."""
    assert mapped("{inputs: {x: data.values}}") == {"inputs": {"x": [[1, 2]]}}
    assert mapped("[id, source, type, subject, specversion]") == ["1", "/s", "t", "sub", "1.0"]
    assert mapped("{inputs: {x: `[[1, 2, 3, 4]]`}}") == {"inputs": {"x": [[1, 2, 3, 4]]}}
    assert mapped("data_base64", Event("1", "/s", "t", "image/png", body=b"\0")) == "AA=="


@pytest.mark.parametrize("expression", ["data.nothing", "data.values[7]", "nothing"])
def test_an_expression_that_finds_nothing_is_refused(expression: str) -> None:
    """Null is no input."""
    with pytest.raises(InvalidInput, match=r"^input: expected a value from .*, got null"):
        mapped(expression)


@pytest.mark.parametrize("expression", ["length(data.n)", 'sum(`["a"]`)', "nope(@)", "sort(data)"])
def test_an_expression_that_fails_says_why(expression: str) -> None:
    """An input error, whatever jmespath raises."""
    with pytest.raises(InvalidInput, match=r"^input: expected"):
        mapped(expression)


@pytest.mark.filterwarnings("ignore:deprecated string literal")
@pytest.mark.parametrize("expression", ["{", "a.", "[" * 900, "x" * 2_000, "a..b", ""])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    """Also what nests too deep to be read."""
    with pytest.raises(InvalidInput, match=r"^input: expected"):
        check_expression(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "|".join(["[@,@][]"] * 60),
        "|".join(["[@,@]"] * 60),
        "|".join(["{a:@,b:@}"] * 60),
        "join('', [" + ",".join(["data.long"] * 60) + "])",
        "[" + ",".join(["data.long"] * 60) + "]",
        "|".join(["to_string([@,@])"] * 40),
    ],
)
def test_an_expression_that_grows_without_end_is_stopped(expression: str) -> None:
    """Doubling lists, objects, texts; by reference or by copy."""
    event = Event("1", "/s", "t", value={"long": "x" * 1_000})
    with pytest.raises(PayloadTooLarge, match="makes more than"):
        map_event(expression, event, BYTES)


def test_data_that_is_not_of_its_type_is_an_input_error() -> None:
    """It is the event's, and not ours."""
    with pytest.raises(InvalidInput, match=r"^data: expected JSON"):
        mapped("data", Event("1", "/s", "t", "application/json", body=b"{"))


def test_data_that_nests_too_deep_is_an_input_error() -> None:
    """Whether it is mapped or passed."""
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    with pytest.raises(InvalidInput):
        mapped("data", Event("1", "/s", "t", value=deep))
    with pytest.raises(InvalidInput):
        Event("1", "/s", "t", value=deep).data()


# jmespath takes `{` for a text, and warns
@pytest.mark.filterwarnings("ignore:deprecated string literal")
@given(st.text("ab.[]*{}:,|&@`'\"()!<>=?019 -", max_size=30))
def test_no_expression_makes_another_error(expression: str) -> None:
    """Whatever somebody writes."""
    with suppress(RequestError):
        check_expression(expression)
        map_event(expression, EVENT, BYTES)
