"""Errors as problem documents."""

import orjson
import pytest
from werkzeug.exceptions import MethodNotAllowed, NotFound, RequestEntityTooLarge

from contract.errors import BY_CODE, FuseboxError, InvalidInput
from contract.store.jobs import StaleVersion
from gateway.problems import problem, translate


@pytest.mark.parametrize("kind", BY_CODE.values())
def test_every_error_has_a_problem_of_its_code_and_status(kind: type[FuseboxError]) -> None:
    """RFC 9457, with `code` for programs."""
    answer = problem(kind("What happened."), "/v1/x")
    document = orjson.loads(answer.body)
    assert answer.content_type == "application/problem+json"
    assert (kind.http_status, kind.http_status) == (answer.status, document["status"])
    assert document["code"] == kind.code
    assert document["detail"] == "What happened."
    assert document["instance"] == "/v1/x"
    assert ("Retry-After" in dict(answer.headers)) == (kind.http_status in (429, 503))


def test_extensions_never_cover_what_the_standard_names() -> None:
    """A stored error cannot change its status on the way out."""
    answer = problem(FuseboxError("x", status=200, code="fine", title="t"), "/")
    document = orjson.loads(answer.body)
    assert (document["status"], document["code"]) == (500, "internal")


def test_extensions_may_be_anything_that_was_stored() -> None:
    """An outcome is msgpack, which holds more than JSON does."""
    answer = problem(InvalidInput("x", value=b"\xff", number=2**64 - 1), "/")
    assert orjson.loads(answer.body)["value"] == "b'\\xff'"


@pytest.mark.parametrize(
    "error", [KeyError("secret"), StaleVersion("secret"), FuseboxError("secret")]
)
def test_an_unknown_error_stays_inside(error: Exception) -> None:
    """500 with the code `internal`; the log has the rest."""
    answer = translate(error, "/")
    assert (answer.status, orjson.loads(answer.body)["code"]) == (500, "internal")
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound(), 404, "not_found"),
        (MethodNotAllowed(["GET", "PUT"]), 405, "method_not_allowed"),
        (RequestEntityTooLarge(), 413, "payload_too_large"),
    ],
)
def test_errors_of_http_itself_are_problems_too(error: Exception, status: int, code: str) -> None:
    """One shape for every error."""
    answer = translate(error, "/")
    assert (status, code) == (answer.status, orjson.loads(answer.body)["code"])


def test_a_wrong_method_is_told_the_right_ones() -> None:
    """RFC 9110 requires Allow."""
    assert dict(translate(MethodNotAllowed(["GET", "PUT"]), "/").headers)["Allow"] == "GET, PUT"
