"""`fusebox alias` and `fusebox rollback`: what is asked, and what is said."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.deploy.conftest import Fusebox
from tests.unit.deploy.fake_gateway import FUNCTION, FakeGateway, job

BASE = "/v1/functions/echo/aliases"
PROD: dict[str, Any] = {
    "function": "echo",
    "alias": "prod",
    "versions": {"3": 90, "4": 10},
    "before": [{"3": 1}],
}


def test_an_alias_is_put_as_typed(gateway: FakeGateway, fusebox: Fusebox) -> None:
    """Weights by version."""
    gateway.on("PUT", f"{BASE}/prod", (200, PROD))
    result = fusebox("alias", "echo", "prod=3:90,4:10")
    assert (result.exit_code, result.output) == (0, "echo prod=3:90,4:10, before prod=3\n")
    assert json.loads(gateway.asked[0].body) == {"versions": {"3": 90, "4": 10}}


def test_aliases_are_listed_and_removed(gateway: FakeGateway, fusebox: Fusebox) -> None:
    """With what they pointed at before."""
    gateway.on("GET", BASE, (200, {"aliases": [PROD]}))
    gateway.on("DELETE", f"{BASE}/prod", (200, PROD))
    listed = fusebox("alias", "echo")
    assert "prod=3:90,4:10" in listed.output
    assert json.loads(fusebox("alias", "echo", "--json").output) == {"aliases": [PROD]}
    assert "removed prod=" in fusebox("alias", "echo", "--rm", "prod").output


def test_what_cannot_be_meant_is_wrong_usage(gateway: FakeGateway, fusebox: Fusebox) -> None:
    """Before anything is asked."""
    for args in (("prod",), ("3=3",), ("prod=3,4",), ("prod=3", "--rm", "prod")):
        assert fusebox("alias", "echo", *args).exit_code == 2, args
    assert gateway.asked == []


def test_a_rollback_needs_no_name_where_there_is_one(
    gateway: FakeGateway, fusebox: Fusebox
) -> None:
    """And asks for it where there are more, or none."""
    gateway.on("POST", f"{BASE}/prod/rollback", (200, PROD))
    gateway.on("GET", BASE, (200, {"aliases": [PROD]}))
    assert fusebox("rollback", "echo").exit_code == 0
    assert fusebox("rollback", "echo", "prod").exit_code == 0
    gateway.on("GET", BASE, (200, {"aliases": [PROD, PROD | {"alias": "beta"}]}))
    many = fusebox("rollback", "echo")
    assert (many.exit_code, "beta" in many.output) == (2, True)
    gateway.on("GET", BASE, (200, {"aliases": []}))
    assert fusebox("rollback", "echo").exit_code == 3


def test_aliases_are_shown_with_functions_and_jobs(gateway: FakeGateway, fusebox: Fusebox) -> None:
    """In `ls`, `describe` and `jobs get`; a sticky key goes along with a call."""
    function = FUNCTION | {"aliases": {"prod": {"2": 1}}}
    record = job("running", alias="prod")
    gateway.on("GET", "/v1/functions", (200, {"functions": [function]}))
    gateway.on("GET", "/v1/functions/echo@prod", (200, function))
    gateway.on("GET", f"/v1/jobs/{record['job']}", (200, record))
    assert "prod=2" in fusebox("ls").output
    assert "prod=2" in fusebox("describe", "echo@prod").output
    assert "echo@2, by echo@prod" in fusebox("jobs", "get", record["job"]).output
    gateway.on("POST", "/v1/functions/echo@prod/invoke", (202, record))
    fusebox("invoke", "echo@prod", "--data", "{}", "--async", "--sticky", "user 7")
    assert gateway.asked[-1].headers["fusebox-sticky"] == "user 7"
