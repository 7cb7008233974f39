"""The routes of OpenFaaS over a real store."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from contract.access import Scope, Wish, mint
from contract.errors import HandlerFailed, InvalidInput
from contract.job import Outcome
from contract.settings import Settings
from contract.store import Store
from gateway.app import create_app
from tests.integration.gateway.builders import FakeWorker, publish, report, succeeded
from tests.unit.gateway.manifests import WITH_HOOKS

# what is asked of the store does not depend on the kind of server
pytestmark = pytest.mark.parametrize("redis_url", ["embedded"], indirect=True)
X = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
CALL = "/function/echo"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_a_call_gives_what_the_function_returns(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Outputs as JSON; the call has an id and its times; a body of no named type is looked at."""
    publish(store)
    began_s = time.time()
    answer = client.post(CALL, json=X)
    assert (answer.status_code, answer.json) == (200, {"x": X["inputs"]["x"]})
    job = answer.headers["Fusebox-Job"]
    assert answer.headers["X-Call-Id"] == job
    assert 0 <= int(answer.headers["X-Start-Time"]) / 1e9 - began_s < 60
    assert re.fullmatch(r"[0-9]+\.[0-9]{6}", answer.headers["X-Duration-Seconds"])
    for name in ("echo.openfaas-fn", "echo@1"):
        named = client.put(f"/function/{name}", json=X, headers={"X-Call-Id": "mine"})
        assert (named.status_code, named.headers["X-Call-Id"]) == (200, "mine")
    # curl says form, faas-cli text: tensors are JSON, and so is what begins like it
    publish(store, "hooked", WITH_HOOKS)
    data = b'{"inputs": {"x": [[1, 2, 3, 4]]}}'
    for headers in (FORM, {"Content-Type": "text/plain"}, {}):
        assert client.post(CALL, data=data, headers=headers).status_code == 200
        found = client.post("/function/hooked", data=b'{"a": 1}', headers=headers).json
        assert found["type"] == "application/json"
    for data, headers, expected in [
        (b"42", FORM, FORM["Content-Type"]),
        (b"{not json", {"Content-Type": "text/plain"}, "text/plain"),
        (b"[1", {}, "application/octet-stream"),
        (b'{"a": 1}', {"Content-Type": "application/x-mine"}, "application/x-mine"),
    ]:
        found = client.post("/function/hooked", data=data, headers=headers).json
        assert (found["type"], found["body"]) == (expected, data.decode())


def test_text_comes_as_text_and_failures_with_their_status(
    redis_url: str, client: FlaskClient, store: Store
) -> None:
    """Only what is not the function's own fault is marked as the platform's."""
    publish(store, "hooked", WITH_HOOKS)
    outcomes = {
        b'"text"': succeeded(result="grüße"),
        b'"fail"': Outcome.of_error(HandlerFailed("it raised")),
        b'"wrong"': Outcome.of_error(InvalidInput("x: expected y")),
    }
    worker = FakeWorker(redis_url, lambda fetched: outcomes[fetched.payload])
    worker.start()
    text, fail, wrong = [
        client.post("/function/hooked", data=data, content_type="application/json")
        for data in outcomes
    ]
    worker.stop()
    assert (text.status_code, text.text, text.mimetype) == (200, "grüße", "text/plain")
    assert (fail.status_code, fail.text) == (500, "it raised")
    assert "X-OpenFaaS-Internal" not in fail.headers
    assert (wrong.status_code, wrong.headers["X-OpenFaaS-Internal"]) == (422, "gateway")


def test_an_asynchronous_call_is_accepted_and_can_be_cancelled(
    client: FlaskClient, store: Store
) -> None:
    """202 with the id to ask for; its callback travels with the job."""
    publish(store)
    headers = {"X-Callback-Url": "http://192.0.2.1/hook", "X-Call-Id": "mine"}
    answer = client.post("/async-function/echo", json=X, headers=headers)
    assert (answer.status_code, answer.data, answer.headers["X-Call-Id"]) == (202, b"", "mine")
    job = store.jobs.get(answer.headers["Fusebox-Job"])
    assert job.origin.on_success == job.origin.on_failure == ("openfaas+http://192.0.2.1/hook",)
    assert job.origin.cause == "openfaas:mine"
    plain = client.post("/async-function/echo", json=X)
    call_id = plain.headers["X-Call-Id"]
    assert client.delete(f"/async-function/{call_id}").status_code == 202
    assert client.get(f"/v1/jobs/{call_id}").json["status"] == "cancelled"
    assert client.delete("/async-function/nope").status_code == 404


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/function/nope", {}, 404),
        ("/function/echo.other", {}, 404),
        ("/function/echo/path", {}, 404),
        ("/function/echo", {"X-Call-Id": "a b"}, 400),
        ("/async-function/echo", {"X-Callback-Url": "::"}, 400),
        ("/async-function/echo", {"X-Callback-Url": "ftp://x/"}, 400),
        ("/system/functions", {}, 400),
    ],
)
def test_what_is_wrong_is_said_as_text(
    client: FlaskClient, store: Store, path: str, headers: dict[str, str], status: int
) -> None:
    """And marked as not the function's."""
    publish(store)
    answer = client.post(path, json=X, headers=headers)
    assert (answer.status_code, answer.mimetype) == (status, "text/plain"), answer.text
    assert answer.text


def test_the_system_is_described(client: FlaskClient, store: Store) -> None:
    """Functions with their calls and replicas, one namespace."""
    publish(store)
    store.workers.report(report(), 60, is_news=False)
    call_id = client.post("/async-function/echo", json=X).headers["X-Call-Id"]
    client.delete(f"/async-function/{call_id}")
    [function] = client.get("/system/functions?namespace=openfaas-fn").json
    assert (function["name"], function["invocationCount"], function["replicas"]) == ("echo", 1, 1)
    assert function == client.get("/system/function/echo").json
    assert client.get("/system/functions?namespace=other").status_code == 404
    assert client.get("/system/function/nope").status_code == 404
    assert client.get("/system/namespaces").json == ["openfaas-fn"]
    assert client.get("/system/info").json["provider"]["provider"] == "fusebox"


def test_a_key_is_taken_as_the_password_of_basic(settings: Settings, store: Store) -> None:
    """That is what faas-cli sends; a key that may not call is refused."""
    publish(store)
    client = create_app(replace(settings, auth="on"), store).test_client()
    key, token = mint(Wish(scopes=(Scope.DEPLOY,)))
    store.api_keys.add(key)

    def basic(password: str) -> dict[str, str]:
        return {"Authorization": f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"}

    assert client.get("/system/functions", headers=basic(token.text)).status_code == 200
    assert client.post(CALL, json=X, headers=basic(token.text)).status_code == 403
    for headers in (basic("wrong"), {"Authorization": "Basic \xff"}, {}):
        assert client.get("/system/functions", headers=headers).status_code == 401
