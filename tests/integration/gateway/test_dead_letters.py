"""Destinations, delivery logs, dead letters and secrets of webhooks over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

from contract.delivery import Delivery, State
from contract.errors import HandlerFailed
from contract.function import Function, FunctionRef
from contract.job import JobId, Outcome
from contract.origin import Origin
from contract.settings import Settings
from contract.store import Store
from contract.tensors import unpack_tensors
from gateway.app import create_app, gateway_of
from gateway.bodies import Payload, read_payload
from gateway.calls import Accepted, Call, submit_all
from gateway.delivery.telling import bounds_of, spread
from tests.integration.gateway.builders import FakeWorker, publish
from tests.integration.gateway.test_platform import Description
from tests.unit.gateway.manifests import MANIFEST

INVOKE = "/v1/functions/echo/invoke"
BODY = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
ASYNC = {"Prefer": "respond-async"}
LETTERS = "/v1/dead-letters"
ITEM = LETTERS + "/{letter_id}"


@pytest.fixture
def broken(redis_url: str, store: Store) -> Iterator[FakeWorker]:
    """A worker whose every job fails."""
    worker = FakeWorker(redis_url, lambda _: Outcome.of_error(HandlerFailed("ValueError: no")))
    worker.start()
    yield worker
    worker.stop()


def failed(
    client: FlaskClient, store: Store, settings: Settings, path: str = INVOKE, **headers: str
) -> JobId:
    """A job of a call that nobody waited for, and that has failed and been told of."""
    answer = client.post(path, json=BODY, headers=ASYNC | headers)
    assert answer.status_code == 202
    job = JobId(answer.json["job"])
    assert client.get(f"/v1/jobs/{job}?wait=5").json["status"] == "failed"
    take(store, settings)
    return job


def take(store: Store, settings: Settings) -> None:
    """What the service does with the outbox."""
    link = store.server.blocking()
    try:
        spread(store, settings, store.deliveries.wait(link, 10, 0.01))
    finally:
        link.close()


def test_a_call_names_its_destinations(client: FlaskClient, store: Store) -> None:
    """Repeated or separated by commas, and added to those of the function."""
    publish(store, manifest=replace(MANIFEST, on_success=("function:f",)))
    headers = {
        **ASYNC,
        "Fusebox-On-Success": "https://a.example/x, function:g ,function:f",
        "Fusebox-On-Failure": "stream:events:failed",
    }
    job = client.post(INVOKE, json=BODY, headers=headers).json["job"]
    origin = store.jobs.get(job).origin
    assert origin.on_success == ("function:f", "https://a.example/x", "function:g")
    assert (origin.on_failure, origin.is_kept) == (("stream:events:failed",), True)


def test_calls_made_together_have_those_of_their_function(app: Flask, store: Store) -> None:
    """As triggers make them."""
    publish(store, manifest=replace(MANIFEST, on_failure=("function:f",)))
    gateway = gateway_of(app)

    def read(function: Function) -> Payload:
        return read_payload(function.manifest, "", orjson.dumps(BODY), 10_000)

    calls = [Call(FunctionRef("echo"), read, origin=Origin(cause=f"trigger:{n}")) for n in "ab"]
    made = submit_all(gateway, calls)
    assert [store.jobs.get(job.spec.id).origin for job in made if isinstance(job, Accepted)] == [
        Origin(cause=f"trigger:{n}", on_failure=("function:f",)) for n in "ab"
    ]


@pytest.mark.parametrize(
    ("prefer", "is_kept"),
    [("respond-async", True), ("wait=0", False), ("respond-async, wait=0", False)],
)
def test_calls_that_nobody_waits_for_are_kept(
    client: FlaskClient, store: Store, prefer: str, is_kept: bool
) -> None:
    """Whoever names a time waits, and hears of a failure himself."""
    publish(store)
    job = client.post(INVOKE, json=BODY, headers={"Prefer": prefer}).json["job"]
    assert store.jobs.get(job).origin.is_kept is is_kept


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Fusebox-On-Success", "nobody"),
        ("Fusebox-On-Success", "nobodys+https://a.example/"),
        ("Fusebox-On-Failure", "stream:fb:pending"),
        ("Fusebox-On-Failure", ",".join(f"function:f{n}" for n in range(9))),
    ],
)
def test_what_is_no_destination_is_refused(
    client: FlaskClient, store: Store, header: str, value: str
) -> None:
    """422 naming the header, before anything is accepted."""
    publish(store)
    answer = client.post(INVOKE, json=BODY, headers={header: value})
    assert (answer.status_code, answer.json["field"]) == (422, header)
    assert store.telemetry.conservation().accepted == 0


def test_a_job_shows_its_deliveries(
    client: FlaskClient, store: Store, settings: Settings, broken: FakeWorker
) -> None:
    """Once it has ended; others show none."""
    publish(store)
    job = failed(client, store, settings, **{"Fusebox-On-Failure": "https://a.example/"})
    shown = Description(client).check("GET", "/v1/jobs/{job_id}", f"/v1/jobs/{job}").json
    [delivery] = shown["deliveries"]
    assert delivery.pop("next_at").endswith("Z")
    assert delivery == {
        "destination": "https://a.example/",
        "state": "waiting",
        "attempts": 0,
        "at": None,
        "status": None,
        "error": None,
        "job": None,
    }


def test_a_dead_letter_is_shown_and_run_again(
    client: FlaskClient, store: Store, settings: Settings, broken: FakeWorker
) -> None:
    """As a new job of the same input that knows where it comes from; then the letter is gone."""
    publish(store)
    job = failed(client, store, settings)
    check = Description(client).check
    [listed] = check("GET", LETTERS, LETTERS).json["dead_letters"]
    assert (listed["id"], listed["kind"], listed["reason"]) == (job, "job", "handler_failed")
    shown = check("GET", ITEM, f"{LETTERS}/{job}").json
    assert unpack_tensors(base64.b64decode(shown["payload"]))["x"].tolist() == BODY["inputs"]["x"]
    assert shown["job_record"]["error"]["code"] == "handler_failed"
    answer = check("POST", ITEM + "/redrive", f"{LETTERS}/{job}/redrive")
    assert (answer.status_code, answer.json["id"]) == (202, job)
    new = answer.json["job"]
    assert answer.headers["Location"] == f"/v1/jobs/{new}"
    assert new != job
    assert store.jobs.get(new).origin.cause == f"dlq:{job}"
    assert client.get(f"/v1/jobs/{new}?wait=5").json["status"] == "failed"
    take(store, settings)
    # it is one again, under its new id
    assert [letter.id for letter in store.dead_letters.last(10)] == [new]
    assert check("GET", ITEM, f"{LETTERS}/{job}").status_code == 404
    assert check("POST", ITEM + "/redrive", f"{LETTERS}/{job}/redrive").status_code == 404


def test_running_again_twice_makes_one_job(
    client: FlaskClient, store: Store, settings: Settings, broken: FakeWorker
) -> None:
    """Where the letter could not be removed, it finds the job that it made."""
    publish(store)
    job = failed(client, store, settings)
    letter = store.server.redis.dump(f"fb:letter:{job}")
    first = client.post(f"{LETTERS}/{job}/redrive").json["job"]
    store.server.redis.restore(f"fb:letter:{job}", 0, letter)
    assert client.post(f"{LETTERS}/{job}/redrive").json["job"] == first


def test_running_again_is_by_the_latest_version(
    client: FlaskClient, store: Store, settings: Settings, broken: FakeWorker
) -> None:
    """And checked by it; a letter that does not fit stays."""
    publish(store)
    job = failed(client, store, settings)
    changed = MANIFEST.inputs[0]._replace(shape=(None, 3))
    publish(store, manifest=replace(MANIFEST, inputs=(changed,)))
    answer = Description(client).check("POST", ITEM + "/redrive", f"{LETTERS}/{job}/redrive")
    assert (answer.status_code, answer.json["field"]) == (422, "inputs.x")
    publish(store)
    new = client.post(f"{LETTERS}/{job}/redrive").json["job"]
    assert store.jobs.get(new).spec.version == 3


def test_running_again_is_by_the_alias_of_the_call(
    client: FlaskClient, store: Store, settings: Settings, broken: FakeWorker
) -> None:
    """What it means now; where it is gone, the letter stays."""
    publish(store)
    publish(store)
    alias = "/v1/functions/echo/aliases/prod"
    assert client.put(alias, json={"versions": {"1": 100}}).status_code in (200, 201)
    job = failed(client, store, settings, path="/v1/functions/echo@prod/invoke")
    assert store.jobs.get(job).spec.version == 1
    assert client.put(alias, json={"versions": {"2": 100}}).status_code == 200
    new = client.post(f"{LETTERS}/{job}/redrive").json["job"]
    again = store.jobs.get(new)
    assert (again.spec.version, again.origin.alias) == (2, "prod")
    assert client.get(f"/v1/jobs/{new}?wait=5").json["status"] == "failed"
    take(store, settings)
    assert client.delete(alias).status_code == 200
    answer = Description(client).check("POST", ITEM + "/redrive", f"{LETTERS}/{new}/redrive")
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_alias")
    assert store.dead_letters.count() == 1


def test_a_delivery_that_was_given_up_is_tried_anew(
    client: FlaskClient, store: Store, settings: Settings, broken: FakeWorker
) -> None:
    """Though the record of its job has expired."""
    publish(store)
    headers = {"Fusebox-On-Failure": "https://a.example/"}
    job = failed(client, store, settings, **headers)
    [due] = store.deliveries.due("a.example:443", 1e11, 10)
    gone = Delivery("https://a.example/", State.GIVEN_UP, 1.0, 0.0, 1, 2.0, 410, "answered 410")
    assert store.deliveries.note(due, gone, "http_410", bounds_of(settings), 3.0)
    store.server.redis.delete(f"fb:job:{job}")
    check = Description(client).check
    letters = check("GET", LETTERS, LETTERS).json["dead_letters"]
    letter = next(letter for letter in letters if letter["kind"] == "delivery")
    assert (letter["id"], letter["reason"]) == (f"{job}-0", "http_410")
    assert letter["delivery"]["status"] == 410
    assert check("GET", ITEM, f"{LETTERS}/{job}-0").status_code == 200
    answer = check("POST", ITEM + "/redrive", f"{LETTERS}/{job}-0/redrive")
    assert (answer.status_code, answer.json) == (202, {"id": f"{job}-0", "job": job})
    [again] = store.deliveries.of(job)
    assert (again.state, again.attempts, again.created_at_s) == (State.WAITING, 0, 1.0)
    assert store.deliveries.due("a.example:443", 1e11, 10) == [due]
    assert client.get(f"/v1/jobs/{job}").json["status"] == "failed"
    done = replace(again, state=State.DELIVERED, next_at_s=0.0)
    assert store.deliveries.note(due, done, "", bounds_of(settings), 4.0)
    assert store.server.redis.ttl(f"fb:job:{job}") > 0


def test_dead_letters_are_listed_by_pages_and_purged(
    client: FlaskClient, store: Store, settings: Settings, broken: FakeWorker
) -> None:
    """The newest first; one, or all."""
    publish(store)
    jobs = [failed(client, store, settings) for _ in range(3)]
    check = Description(client).check
    newest = check("GET", LETTERS, f"{LETTERS}?count=1").json
    assert ([letter["id"] for letter in newest["dead_letters"]], newest["count"]) == ([jobs[2]], 3)
    before_s = store.dead_letters.last(1)[0].at_s
    older = client.get(f"{LETTERS}?before={before_s!r}").json["dead_letters"]
    assert [letter["id"] for letter in older] == [jobs[1], jobs[0]]
    assert check("GET", LETTERS, f"{LETTERS}?count=0").status_code == 422
    assert check("GET", LETTERS, f"{LETTERS}?before=now").status_code == 422
    assert check("DELETE", ITEM, f"{LETTERS}/{jobs[0]}").json == {"purged": 1}
    assert check("DELETE", ITEM, f"{LETTERS}/{jobs[0]}").status_code == 404
    assert check("DELETE", LETTERS, LETTERS).json == {"purged": 2}
    assert check("GET", LETTERS, LETTERS).json == {"dead_letters": [], "count": 0}


@pytest.mark.parametrize("letter", ["x", "0" * 23, "0" * 24, "0" * 24 + "-", "0" * 24 + "-123"])
def test_an_id_that_is_none_is_not_found(client: FlaskClient, letter: str) -> None:
    """Whatever is done to it."""
    for method, suffix in (("GET", ""), ("DELETE", ""), ("POST", "/redrive")):
        answer = client.open(f"{LETTERS}/{letter}{suffix}", method=method)
        assert (answer.status_code, answer.json["code"]) == (404, "unknown_letter")


def test_the_secret_of_webhooks_is_shown_and_rotated(client: FlaskClient) -> None:
    """Made once; after a rotation both are valid."""
    check, path = Description(client).check, "/v1/webhooks/secret"
    [first] = check("GET", path, path).json["secrets"]
    assert check("GET", path, path).json["secrets"] == [first]
    both = check("POST", f"{path}/rotate", f"{path}/rotate").json["secrets"]
    assert (both[1], len(set(both))) == (first, 2)
    assert "no-store" in client.get(path).headers["Cache-Control"]


def test_a_secret_of_the_settings_is_not_rotated_here(settings: Settings, store: Store) -> None:
    """It would come back with the next process."""
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    app: Flask = create_app(replace(settings, webhook_secret=secret), store)
    client = app.test_client()
    path = "/v1/webhooks/secret"
    assert client.get(path).json == {"secrets": [secret]}
    answer = Description(client).check("POST", f"{path}/rotate", f"{path}/rotate")
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")
    gateway_of(app).replies.close()


def test_who_may_see_letters_and_secrets() -> None:
    """Inputs of everybody are for who deploys; the secret is the operator's."""
    from contract.access import Scope
    from gateway.access import scope_of

    found: dict[str, Any] = {
        path: {scope_of(method, path) for method in ("GET", "POST", "DELETE")}
        for path in (LETTERS, f"{LETTERS}/x/redrive", "/v1/webhooks/secret")
    }
    assert list(found.values()) == [{Scope.DEPLOY}, {Scope.DEPLOY}, {Scope.ADMIN}]
