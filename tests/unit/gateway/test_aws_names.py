"""Names of functions as the Lambda API writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import RequestError, UnknownFunction
from contract.function import FunctionRef
from gateway.aws.names import arn_of, parse_name

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:echo"


@pytest.mark.parametrize(
    ("name", "qualifier", "expected"),
    [
        ("echo", "", FunctionRef("echo")),
        ("echo", "$LATEST", FunctionRef("echo")),
        ("echo:$LATEST", "", FunctionRef("echo")),
        ("echo:3", "", FunctionRef("echo", 3)),
        ("echo", "3", FunctionRef("echo", 3)),
        ("echo:prod", "prod", FunctionRef("echo", 0, "prod")),
        (ARN, "", FunctionRef("echo")),
        (f"{ARN}:prod", "", FunctionRef("echo", 0, "prod")),
        ("123456789012:function:echo:7", "", FunctionRef("echo", 7)),
        ("function:echo", "", FunctionRef("echo")),
    ],
)
def test_every_way_to_name_a_function(name: str, qualifier: str, expected: FunctionRef) -> None:
    """Plain, qualified, partial and whole ARNs of any region and account."""
    assert parse_name(name, qualifier) == expected


@pytest.mark.parametrize("name", ["", "a b", "arn:aws:s3:::bucket", "echo:", "e" * 300, "écho"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """Saying what is expected."""
    with pytest.raises(RequestError, match="FunctionName: expected"):
        parse_name(name)


@pytest.mark.parametrize(("name", "qualifier"), [("Echo", ""), ("echo_1", ""), ("echo", "0")])
def test_a_name_that_no_function_here_can_have_is_unknown(name: str, qualifier: str) -> None:
    """It is well formed for AWS."""
    with pytest.raises(UnknownFunction) as error:
        parse_name(name, qualifier)
    assert error.value.extensions["function"].startswith(name)


def test_two_qualifiers_must_agree() -> None:
    """As AWS refuses it."""
    with pytest.raises(RequestError, match="does not match the specified qualifier"):
        parse_name("echo:3", "4")


@given(st.from_regex("[a-z][a-z0-9]{0,20}", fullmatch=True), st.integers(1, 999_999_999))
def test_an_arn_is_read_back(name: str, version: int) -> None:
    """The function and the version it was made of."""
    assert parse_name(arn_of(name, str(version))) == FunctionRef(name, version)


@given(st.text(max_size=100), st.text(max_size=40))
def test_any_text_is_a_name_or_refused(name: str, qualifier: str) -> None:
    """Never another error."""
    try:
        found = parse_name(name, qualifier)
    except (RequestError, UnknownFunction):
        return
    assert found.name
