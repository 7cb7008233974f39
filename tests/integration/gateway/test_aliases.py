"""Aliases over HTTP, and calls by them."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from contract.aliases import Alias
from contract.function import FunctionRef
from contract.store import Store
from tests.integration.gateway.builders import FakeWorker, publish

BASE = "/v1/functions/echo/aliases"
CALL: dict[str, Any] = {"json": {"inputs": {"x": [[1, 2, 3, 4]]}}}


@pytest.fixture(autouse=True)
def versions(store: Store) -> None:
    """Two versions of echo."""
    publish(store)
    publish(store)


def test_an_alias_lives_as_its_routes_say(client: FlaskClient) -> None:
    """Made, moved, listed, moved back, removed."""
    made = client.put(f"{BASE}/prod", json={"versions": {"1": 90, "2": 10}})
    want = {"function": "echo", "alias": "prod", "versions": {"1": 90, "2": 10}, "before": []}
    assert (made.status_code, made.json) == (200, want)
    assert client.put(f"{BASE}/prod", json={"versions": {"2": 1}}).json["before"] == [
        {"1": 90, "2": 10}
    ]
    assert client.get(BASE).json["aliases"] == [client.get(f"{BASE}/prod").json]
    assert client.get("/v1/functions/echo").json["aliases"] == {"prod": {"2": 1}}
    assert client.get("/v1/functions").json["functions"][0]["aliases"] == {"prod": {"2": 1}}
    assert client.post(f"{BASE}/prod/rollback").json["versions"] == {"1": 90, "2": 10}
    assert client.get("/v1/functions/echo@prod").json["version"] == 1
    assert client.delete("/v1/functions/echo@1").json["code"] == "alias_in_use"
    assert client.delete(f"{BASE}/prod").status_code == 200
    assert client.get(BASE).json == {"aliases": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PUT", "/prod", b"{", 400, "malformed_body"),
        ("PUT", "/prod", b"[]", 422, "invalid_input"),
        ("PUT", "/prod", b'{"versions": {"1": 1}, "more": 1}', 422, "invalid_input"),
        ("PUT", "/prod", b'{"versions": [1]}', 422, "invalid_input"),
        ("PUT", "/prod", b'{"versions": {"": 1}}', 422, "invalid_input"),
        ("PUT", "/prod", b'{"versions": {"\xc2\xb2": 1}}', 422, "invalid_input"),
        ("PUT", "/prod", b'{"versions": {"1": 0}}', 422, "invalid_input"),
        ("PUT", "/prod", b'{"versions": {"1": true}}', 422, "invalid_input"),
        ("PUT", "/prod", b'{"versions": {"1": 0.5}}', 422, "invalid_input"),
        ("PUT", "/prod", b'{"versions": {"9": 1}}', 404, "unknown_function"),
        ("PUT", "/7", b'{"versions": {"1": 1}}', 422, "invalid_input"),
        ("PUT", "/prod", b" " * 20_000, 413, "payload_too_large"),
        ("GET", "/nobody", b"", 404, "unknown_alias"),
        ("DELETE", "/nobody", b"", 404, "unknown_alias"),
        ("POST", "/nobody/rollback", b"", 404, "unknown_alias"),
        ("POST", "/b;x/rollback", b"", 422, "invalid_input"),
    ],
)
def test_what_is_wrong_is_told(
    client: FlaskClient, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    """By status and code."""
    answer = client.open(f"{BASE}{path}", method=method, data=body)
    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_an_alias_is_neither_deployed_to_nor_removed_as_a_version(client: FlaskClient) -> None:
    """The error says where it is removed."""
    client.put(f"{BASE}/prod", json={"versions": {"1": 1}})
    for answer in (client.delete("/v1/functions/echo@prod"), client.put("/v1/functions/echo@prod")):
        assert (answer.status_code, answer.json["code"]) == (400, "bad_request")
    assert client.get("/v1/functions/echo@prod/aliases").status_code == 404


def test_a_call_by_alias_goes_where_the_alias_points(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Also when it was moved by somebody else since this process last looked."""
    store.aliases.put("echo", Alias("prod", ((1, 1),)))
    path = "/v1/functions/echo@prod/invoke"
    assert client.post(path, **CALL).json["version"] == 1
    store.aliases.put("echo", Alias("prod", ((2, 1),)))
    answer = client.post(path, **CALL)
    assert answer.json["version"] == 2
    job = client.get(f"/v1/jobs/{answer.json['job']}").json
    assert (job["alias"], job["version"]) == ("prod", 2)
    accepted = client.post(path, headers={"Prefer": "respond-async"}, **CALL)
    assert accepted.json["alias"] == "prod"
    store.functions.retire(FunctionRef("echo", 1))
    assert client.post(path, **CALL).json["version"] == 2
    store.aliases.remove("echo", "prod")
    gone = client.post(path, **CALL)
    assert (gone.status_code, gone.json["code"]) == (404, "unknown_alias")


def test_a_sticky_key_keeps_its_version(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """And keys spread over the versions."""
    alias = Alias("prod", ((1, 1), (2, 1)))
    store.aliases.put("echo", alias)

    def version(key: str) -> int:
        answer = client.post(
            "/v1/functions/echo@prod/invoke", headers={"Fusebox-Sticky": key}, **CALL
        )
        found: int = answer.json["version"]
        return found

    keys = [f"user-{k}" for k in range(12)]
    first = [version(key) for key in keys]
    assert first == [alias.choose(key, 0.0) for key in keys]
    assert set(first) == {1, 2}
    assert [version(key) for key in keys] == first
    long = client.post(
        "/v1/functions/echo@prod/invoke", headers={"Fusebox-Sticky": "x" * 257}, **CALL
    )
    assert long.status_code == 422


def test_a_log_by_alias_has_the_lines_of_its_versions(client: FlaskClient, store: Store) -> None:
    """And of no other."""
    from contract.store.telemetry import now_line

    store.aliases.put("echo", Alias("prod", ((2, 1),)))
    for version in (1, 2):
        store.telemetry.write_log("echo", now_line(version, "", "info", f"of {version}"))
    lines = client.get("/v1/functions/echo@prod/logs").json["lines"]
    assert [line["text"] for line in lines] == ["of 2"]


def test_a_body_that_fits_no_version_is_refused(client: FlaskClient, store: Store) -> None:
    """As by any other name."""
    store.aliases.put("echo", Alias("prod", ((1, 1),)))
    answer = client.post("/v1/functions/echo@prod/invoke", json={"inputs": {"x": [[1]]}})
    assert (answer.status_code, answer.json["field"]) == (422, "inputs.x")
