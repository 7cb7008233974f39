"""Predictions over a real store."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from contract.access import Scope, Wish, mint
from contract.errors import HandlerFailed
from contract.job import Outcome
from contract.settings import Settings
from contract.store import Store
from contract.store.queue import Fetched
from gateway.app import create_app
from tests.integration.gateway.builders import FakeWorker, publish
from tests.unit.gateway.manifests import WITH_HOOKS

# what is asked of the store does not depend on the kind of server
pytestmark = pytest.mark.parametrize("redis_url", ["embedded"], indirect=True)
PREDICTIONS = "/v1/predictions"
GIVEN = {"x": [[1.0, 2.0, 3.0, 4.0]]}
BODY = {"version": "echo", "input": GIVEN}
WAIT = {"Prefer": "wait=5"}
DEEP = b'{"version": "echo", "input": ' + b'{"x":' * 400 + b"1" + b"}" * 401


def test_a_prediction_that_is_waited_for_has_its_output(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """By a version or by a model; read again it is the same but for its input."""
    publish(store)
    made = client.post(PREDICTIONS, json=BODY, headers=WAIT)
    record = made.json
    assert (made.status_code, record["status"], record["output"]) == (201, "succeeded", GIVEN)
    assert (record["model"], record["version"]) == ("fusebox/echo", "echo@1")
    assert (record["input"], record["error"]) == (GIVEN, None)
    assert record["metrics"]["total_time"] == 0.002
    assert client.get(record["urls"]["get"]).json == record | {"input": None}
    of_model = client.post("/v1/models/me/echo/predictions", json={"input": GIVEN}, headers=WAIT)
    assert of_model.json["output"] == GIVEN
    # a function with hooks gets the input as it is, without a frame around it; none is an object
    publish(store, "hooked", WITH_HOOKS)
    for body, payload in [({"input": {"a": [1]}}, '{"a":[1]}'), ({}, "{}")]:
        made = client.post(PREDICTIONS, json={"version": "hooked@1", **body}, headers=WAIT)
        assert made.json["output"] == {"type": "application/json", "body": payload}


def test_a_prediction_goes_through_its_states(
    redis_url: str, client: FlaskClient, store: Store
) -> None:
    """starting while it waits, processing while it runs, failed with the error's text."""
    publish(store)
    begun, go_on = threading.Event(), threading.Event()

    def compute(fetched: Fetched) -> Outcome:
        begun.set()
        assert go_on.wait(20)
        return Outcome.of_error(HandlerFailed("it raised"))

    made = client.post(PREDICTIONS, json=BODY)
    assert (made.status_code, made.json["status"]) == (201, "starting")
    path = made.json["urls"]["get"]
    assert client.get(path).json["status"] == "starting"
    worker = FakeWorker(redis_url, compute)
    worker.start()
    assert begun.wait(20)
    assert client.get(path).json["status"] == "processing"
    # a wait that is in vain: what clients read as not ended yet
    vain = client.post(PREDICTIONS, json=BODY, headers={"Prefer": "wait=0.05"})
    assert (vain.status_code, vain.json["status"], vain.json["output"]) == (202, "starting", None)
    go_on.set()
    worker.stop()
    ended = client.get(path).json
    assert (ended["status"], ended["error"], ended["output"]) == ("failed", "it raised", None)


def test_a_prediction_is_cancelled_once(client: FlaskClient, store: Store) -> None:
    """Cancelling again, or what has ended, changes nothing; an unknown one is 404."""
    publish(store)
    path = client.post(PREDICTIONS, json=BODY).json["urls"]["cancel"]
    for _ in range(2):
        answer = client.post(path)
        assert (answer.status_code, answer.json["status"]) == (200, "canceled")
    for job in ("0" * 24, "nope"):
        assert client.post(f"{PREDICTIONS}/{job}/cancel").status_code == 404
        assert client.get(f"{PREDICTIONS}/{job}").status_code == 404


def test_a_webhook_travels_with_the_job(client: FlaskClient, store: Store) -> None:
    """As a destination of either end."""
    publish(store)
    url = "https://192.0.2.1/hook"
    job = client.post(PREDICTIONS, json=BODY | {"webhook": url}).json["id"]
    origin = store.jobs.get(job).origin
    assert origin.on_success == origin.on_failure == (f"prediction+{url}",)


def test_models_are_functions(client: FlaskClient, store: Store) -> None:
    """With their runs, their versions and a schema of their input."""
    publish(store)
    publish(store)
    job = client.post(PREDICTIONS, json=BODY).json["id"]
    client.post(f"{PREDICTIONS}/{job}/cancel")
    model = client.get("/v1/models/me/echo").json
    assert (model["owner"], model["name"], model["run_count"]) == ("fusebox", "echo", 1)
    assert model["latest_version"]["id"] == "echo@2"
    versions = client.get("/v1/models/me/echo/versions").json["results"]
    assert [version["id"] for version in versions] == ["echo@2", "echo@1"]
    one = client.get("/v1/models/me/echo/versions/echo@1").json
    x = one["openapi_schema"]["components"]["schemas"]["Input"]["properties"]["x"]
    assert x["items"]["items"] == {"type": "number"}
    for path in ("me/nope", "me/nope/versions", "me/echo/versions/echo@9", "me/echo/versions/a@1"):
        assert client.get(f"/v1/models/{path}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_body"),
        (b"[]", 422, "invalid_input"),
        (b"{}", 422, "invalid_input"),
        (b'{"version": "nope"}', 404, "unknown_function"),
        (b'{"version": "echo@9"}', 404, "unknown_function"),
        (b'{"version": "echo", "input": {"x": [[1]]}}', 422, "invalid_input"),
        (b'{"version": "echo", "input": {"y": 1}}', 422, "invalid_input"),
        (DEEP, 422, "invalid_input"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_problem(
    client: FlaskClient, store: Store, body: bytes, status: int, code: str
) -> None:
    """RFC 9457, which is what these clients read too."""
    publish(store)
    answer = client.post(PREDICTIONS, data=body, content_type="application/json")
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert answer.json["detail"]


def test_keys_need_the_scope_of_calls(settings: Settings, store: Store) -> None:
    """Models are for every key."""
    publish(store)
    client = create_app(replace(settings, auth="on"), store).test_client()
    key, token = mint(Wish(scopes=(Scope.DEPLOY,)))
    store.api_keys.add(key)
    shown = {"Authorization": f"Bearer {token.text}"}
    assert client.get("/v1/models/me/echo", headers=shown).status_code == 200
    assert client.post(PREDICTIONS, json=BODY, headers=shown).status_code == 403
    assert client.get(f"{PREDICTIONS}/{'0' * 24}", headers=shown).status_code == 403
    assert client.post(PREDICTIONS, json=BODY).status_code == 401
