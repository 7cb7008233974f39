"""Destinations, dead letters and secrets of webhooks on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.deploy.conftest import Fusebox
from tests.unit.deploy.fake_gateway import ANSWER, JOB, FakeGateway, job, problem

DELIVERY: dict[str, Any] = {
    "destination": "https://a.example/",
    "state": "given_up",
    "attempts": 2,
    "at": "2026-01-02T03:04:05.678Z",
    "next_at": None,
    "status": 410,
    "error": "answered 410",
    "job": None,
}
LETTER: dict[str, Any] = {
    "id": JOB,
    "kind": "job",
    "reason": "handler_failed",
    "at": "2026-01-02T03:04:05.678Z",
    "job": JOB,
    "function": "echo",
    "version": 2,
    "status": "failed",
    "attempts": 1,
    "error": {"code": "handler_failed", "detail": "ValueError: no"},
    "cause": "trigger:nightly",
    "payload_type": "text/plain",
    "payload_bytes": 5,
    "delivery": None,
}
LISTING = {"dead_letters": [LETTER, LETTER | {"id": f"{JOB}-0", "kind": "delivery"}], "count": 2}
SHOWN = LETTER | {"job_record": job("failed", error=LETTER["error"]), "payload": "aGVsbG8="}
PATH = "/v1/dead-letters"


@pytest.fixture
def full(gateway: FakeGateway) -> FakeGateway:
    """A gateway with two dead letters."""
    gateway.on("GET", PATH, (200, LISTING))
    gateway.on("GET", f"{PATH}/{JOB}", (200, SHOWN))
    for letter in (JOB, f"{JOB}-0"):
        gateway.on("POST", f"{PATH}/{letter}/redrive", (202, {"id": letter, "job": "new"}))
        gateway.on("DELETE", f"{PATH}/{letter}", (200, {"purged": 1}))
    gateway.on("DELETE", PATH, (200, {"purged": 2}))
    gateway.on("GET", "/v1/webhooks/secret", (200, {"secrets": ["whsec_a"]}))
    gateway.on("POST", "/v1/webhooks/secret/rotate", (200, {"secrets": ["whsec_b", "whsec_a"]}))
    gateway.on("POST", "/v1/functions/echo/invoke", (200, ANSWER))
    return gateway


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("args", "texts"),
    [
        (["dlq", "list"], [JOB, f"{JOB}-0", "handler_failed", "echo@2", "2 of 2"]),
        (["dlq", "show", JOB], ["ValueError: no", "trigger:nightly", "5 bytes of text/plain"]),
        (["dlq", "redrive", JOB], [f"{JOB} is job new"]),
        (["dlq", "redrive", "--all"], [f"{JOB} is job new", f"{JOB}-0 is job new"]),
        (["dlq", "purge", JOB, f"{JOB}-0"], ["purged 2"]),
        (["dlq", "purge", "--all"], ["purged 2"]),
        (["webhooks", "secret"], ["whsec_a"]),
        (["webhooks", "secret", "--rotate"], ["whsec_b\nwhsec_a"]),
    ],
)
def test_people_read(fusebox: Fusebox, args: list[str], texts: list[str]) -> None:
    """What they asked for."""
    result = fusebox(*args)
    assert result.exit_code == 0, result.output
    assert [text for text in texts if text not in result.stdout] == []


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["dlq", "list"], LISTING),
        (["dlq", "show", JOB], SHOWN),
        (["dlq", "redrive", JOB], {"id": JOB, "job": "new"}),
        (["dlq", "purge", "--all"], {"purged": 2}),
        (["webhooks", "secret"], {"secrets": ["whsec_a"]}),
    ],
)
def test_programs_read_the_record(fusebox: Fusebox, args: list[str], expected: Any) -> None:
    """As the platform gives it."""
    assert json.loads(fusebox(*args, "--json").stdout) == expected


@pytest.mark.parametrize("verb", ["redrive", "purge"])
def test_all_are_meant_only_where_that_is_said(fusebox: Fusebox, verb: str) -> None:
    """Nor are some and all at once."""
    for args in ([], [JOB, "--all"]):
        assert fusebox("dlq", verb, *args).exit_code == 2


def test_running_again_stops_at_the_first_that_is_refused(
    fusebox: Fusebox, full: FakeGateway
) -> None:
    """With the exit code of the refusal."""
    full.on("POST", f"{PATH}/{JOB}/redrive", problem(429, "queue_full", "Too many jobs wait."))
    result = fusebox("dlq", "redrive", "--all")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "Too many jobs wait." in result.stderr


def test_a_call_names_destinations_in_its_headers(fusebox: Fusebox, full: FakeGateway) -> None:
    """Several of them separated by commas."""
    told = ("--on-success", "function:a", "--on-success", "https://b.example/c")
    result = fusebox("invoke", "echo", "--data", "{}", *told, "--on-failure", "stream:events:f")
    assert result.exit_code == 0, result.output
    headers = full.asked[0].headers
    assert headers["fusebox-on-success"] == "function:a, https://b.example/c"
    assert headers["fusebox-on-failure"] == "stream:events:f"


@pytest.mark.parametrize("verb", [["invoke", "echo", "--data", "{}"], ["deploy", "f.py"]])
def test_what_is_no_destination_is_wrong_usage(
    fusebox: Fusebox, full: FakeGateway, verb: list[str]
) -> None:
    """Before anything is exported or sent."""
    result = fusebox(*verb, "--on-failure", "stream:fb:pending")
    assert result.exit_code == 2
    assert "expected stream:events:KEY" in result.stderr
    assert full.asked == []


def test_a_job_says_who_was_told(fusebox: Fusebox, gateway: FakeGateway) -> None:
    """A line for each."""
    made = DELIVERY | {"destination": "function:next", "state": "delivered", "error": None}
    made |= {"attempts": 1, "job": "made"}
    record = job("succeeded", outputs={"y": [1.0]}, deliveries=[DELIVERY, made])
    gateway.on("GET", f"/v1/jobs/{JOB}", (200, record))
    text = fusebox("jobs", "get", JOB).stdout
    assert "https://a.example/: given_up after 2 attempts: answered 410" in text
    assert "function:next: delivered after 1 attempt, as job made" in text
