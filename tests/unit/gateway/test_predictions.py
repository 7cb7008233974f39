"""Requests for predictions: versions, waits, webhooks."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import FuseboxError, InvalidInput, MalformedBody, UnknownFunction
from contract.function import FunctionRef
from gateway.predictions.wishes import Wish, parse_model, parse_version, parse_wait


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo", FunctionRef("echo")),
        ("echo@3", FunctionRef("echo", 3)),
        ("echo@prod", FunctionRef("echo", 0, "prod")),
        ("me/echo", FunctionRef("echo")),
        ("me/echo:echo@3", FunctionRef("echo", 3)),
        ("me/echo:3", FunctionRef("echo", 3)),
    ],
)
def test_a_version_names_its_function(text: str, expected: FunctionRef) -> None:
    """With or without an owner."""
    assert parse_version(text) == expected


def test_a_version_of_another_model_is_unknown() -> None:
    """And so is an owner that is none."""
    for owner, name, wanted in [("me", "echo", "other@3"), ("", "echo", ""), ("a/b", "echo", "")]:
        with pytest.raises(UnknownFunction):
            parse_model(owner, name, wanted)
    with pytest.raises(InvalidInput, match="version: expected"):
        parse_version("")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("respond-async", None),
        ("wait", 60.0),
        ("wait=5", 5.0),
        ("wait=5.5", 5.5),
        ("respond-async, wait=7", 7.0),
        ("wait=600", 60.0),
    ],
)
def test_a_wait_is_what_prefer_says(header: str, expected: float | None) -> None:
    """60 seconds without a number, and at most."""
    assert parse_wait(header, 300.0) == expected
    assert parse_wait("wait", 2.0) == 2.0


@pytest.mark.parametrize("header", ["wait=x", "wait=-1", "wait=", "wait=1e9"])
def test_a_wait_that_is_no_time_is_refused(header: str) -> None:
    """Naming the header."""
    with pytest.raises(InvalidInput, match="Prefer: expected wait=S"):
        parse_wait(header, 300.0)


def test_a_webhook_hears_of_the_end() -> None:
    """Both names that clients have for it, once each."""
    url = "https://example.org/hook"
    body = {"input": {}, "webhook": url, "webhook_completed": url}
    assert Wish.of(orjson.dumps(body)).told == (f"prediction+{url}",)
    assert Wish.of(orjson.dumps(body | {"webhook_events_filter": ["completed"]})).told


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("input", [1]),
        ("version", 3),
        ("webhook", "ftp://example.org"),
        ("webhook", "https://"),
        ("webhook", "https://[::1"),
        ("webhook_events_filter", ["start"]),
        ("webhook_events_filter", ["end"]),
        ("webhook_events_filter", [{}]),
        ("stream", 1),
    ],
)
def test_a_wrong_member_is_named(member: str, value: object) -> None:
    """With what was expected."""
    with pytest.raises(InvalidInput, match=f"{member}: expected"):
        Wish.of(orjson.dumps({"input": {}, member: value}))


@given(st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
def test_any_body_is_a_wish_or_refused(body: bytes) -> None:
    """Never another error."""
    try:
        Wish.of(body)
    except (MalformedBody, InvalidInput):
        return
    except FuseboxError as error:
        pytest.fail(f"{error!r}")
