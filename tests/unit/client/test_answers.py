"""Answers: records, errors of the tree, and what is neither."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import (
    BY_CODE,
    DeadlineUnmeetable,
    FuseboxError,
    JobCancelled,
    QueueFull,
    RateLimited,
    StoreUnavailable,
)
from contract.tensors import encode_tensor
from deploy.client import Answer, Unreachable
from deploy.client.answers import Fault, fault_of, read_record
from deploy.client.request import Lost, Reply
from tests.unit.deploy.fake_gateway import JOB, TIMINGS, job

URL = "http://gateway"
GROUP = {"jobs": 1, "functions": 1}
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def refused(status: int, headers: dict[str, str] | None = None, **members: Any) -> Fault:
    """What a client makes of a problem."""
    fields = {"content-type": "application/problem+json"} | (headers or {})
    body = json.dumps({"type": "/docs", "title": "t", "status": status} | members).encode()
    fault = fault_of(Reply(status, "", fields, body), URL)
    assert fault is not None
    return fault


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_a_problem_is_the_error_of_its_code(code: str) -> None:
    """With its members, and without what only HTTP needs."""
    error = refused(BY_CODE[code].http_status, code=code, detail="why", job_id=JOB).error
    assert type(error) is BY_CODE[code]
    assert (error.detail, error.extensions) == ("why", {"job_id": JOB})


@pytest.mark.parametrize(
    ("status", "members", "passes", "is_void"),
    [
        (429, {"code": "queue_full"}, True, True),
        (429, {"code": "rate_limited"}, True, True),
        (503, {"code": "store_unavailable"}, True, False),
        # it was accepted, and nobody could look it up
        (503, {"code": "store_unavailable", "job_id": JOB}, True, False),
        # it was accepted, and this is how it ended
        (503, {"code": "deadline_unmeetable", "job_id": JOB}, False, False),
        (503, {"code": "artifact_unavailable", "job_id": JOB}, False, False),
        (422, {"code": "invalid_input"}, False, False),
        (500, {"code": "internal"}, False, False),
        (504, {"code": "deadline_exceeded", "job_id": JOB}, False, False),
    ],
)
def test_what_passes_may_be_asked_again(
    status: int, members: dict[str, str], passes: bool, is_void: bool
) -> None:
    """A refusal has done nothing; an outcome stays what it is."""
    fault = refused(status, detail="d", **members)
    assert (passes, is_void) == (fault.is_passing, fault.is_void)


def test_the_exact_time_goes_before_the_rounded_one() -> None:
    """Retry-After has whole seconds only."""
    after = {"retry-after": "1"}
    assert refused(429, after, code="queue_full", detail="d", retry_after_ms=120).after_s == 0.12
    assert refused(429, after, code="queue_full", detail="d").after_s == 1.0
    assert refused(429, after, code="queue_full", detail="d", retry_after_ms="x").after_s == 1.0


def test_what_stands_between_is_told_apart() -> None:
    """Proxies answer for a gateway that does not."""
    gone = fault_of(Reply(502, "Bad Gateway", {"retry-after": "2"}, b"<html>"), URL)
    assert gone is not None
    assert (type(gone.error), gone.is_passing, gone.after_s) == (Unreachable, True, 2.0)
    limited = fault_of(Reply(429, "", {}, b""), URL)
    assert limited is not None
    assert (type(limited.error), limited.is_void) == (RateLimited, True)
    moved = fault_of(Reply(301, "Moved", {"location": "https://x"}, b""), URL)
    assert moved is not None
    assert "301 Moved, not as a Fusebox does" in moved.error.detail


def test_a_lost_request_may_have_been_heard() -> None:
    """Unless nobody listened."""
    cause = OSError("no")
    assert [
        (fault.is_passing, fault.is_void)
        for lost in (Lost.unsent(URL, cause), Lost.broken(URL, cause), Lost.late(URL, cause))
        if (fault := fault_of(lost, URL))
    ] == [(True, True), (True, False), (True, False)]
    assert Lost.unsent(URL, cause).error.__cause__ is cause


@given(
    st.integers(100, 599),
    st.sampled_from(["application/json", "application/problem+json", "application/msgpack", "x"]),
    st.binary(max_size=40)
    | values.map(lambda value: json.dumps(value).encode())
    | values.map(msgpack.packb)
    | st.dictionaries(
        st.sampled_from(["code", "detail", "self", "type", "job_id", "retry_after_ms"]), values
    ).map(lambda value: json.dumps(value).encode()),
)
def test_whatever_answers_is_a_record_or_an_error(status: int, media: str, body: bytes) -> None:
    """Any server may listen at the URL."""
    reply = Reply(status, "r", {"content-type": media}, body)
    fault = fault_of(reply, URL)
    if fault is not None:
        assert isinstance(fault.error, FuseboxError)
        return
    try:
        record = read_record(reply, URL)
        assert isinstance(record, dict)
        Answer.of(record | {"status": "succeeded"})
    except FuseboxError:
        pass


def test_outputs_are_arrays_that_can_be_written_to() -> None:
    """Exactly those that were sent."""
    y = np.arange(6, dtype=np.float16).reshape(2, 3)
    record = job("succeeded", outputs={"y": encode_tensor(y)}, group=GROUP, timings_ms=TIMINGS)
    packed = Reply(200, "OK", {"content-type": "application/msgpack"}, msgpack.packb(record))
    answer = Answer.of(read_record(packed, URL))
    np.testing.assert_array_equal(answer["y"], y, strict=True)
    answer.output[0, 0] = 7
    assert (answer.job, answer.function, answer.version) == (JOB, "echo", 2)
    assert answer.timings_ms["compute"] == TIMINGS["compute"]


def test_a_result_is_what_the_function_gave() -> None:
    """Its members can be asked for as outputs can; there is no single output."""
    answer = Answer.of(job("succeeded", result={"digit": 7}, group=GROUP))
    assert (answer.result, answer["digit"], answer.outputs) == ({"digit": 7}, 7, {})
    with pytest.raises(ValueError, match="outputs of echo: expected one, got none"):
        _ = answer.output


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("cancelled", "job_cancelled", JobCancelled),
        ("refused", "deadline_unmeetable", DeadlineUnmeetable),
        ("failed", "store_unavailable", StoreUnavailable),
        ("failed", "of_the_future", FuseboxError),
        ("failed", "queue_full", QueueFull),
    ],
)
def test_a_job_that_failed_raises_its_error_with_its_id(
    status: str, code: str, kind: type[FuseboxError]
) -> None:
    """So that a program can look it up."""
    with pytest.raises(kind, match="why") as caught:
        Answer.of(job(status, error={"code": code, "detail": "why", "stage": "queue"}))
    assert caught.value.extensions == {"job_id": JOB, "function": "echo@2", "stage": "queue"}
