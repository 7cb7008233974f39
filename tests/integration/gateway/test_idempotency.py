"""Idempotency keys: a request sent often is one job and one answer, whichever gateway it meets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from contract.errors import FunctionFailed
from contract.job import Outcome
from contract.settings import Settings
from contract.store import Store, open_store
from contract.store.queue import Fetched
from gateway.app import create_app, gateway_of
from tests.integration.gateway.builders import TIMINGS, FakeWorker, echo, publish
from tests.unit.gateway.manifests import MANIFEST, X

URL = "/v1/functions/echo/invoke"
BODY = {"inputs": {"x": [[1.0, 2.5, -3.0, 4.0]]}}
OTHER = {"inputs": {"x": [[0.0, 2.5, -3.0, 4.0]]}}
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
DUPLICATES = 50


@pytest.fixture
def other(settings: Settings, redis_url: str) -> Iterator[Flask]:
    """The application of a second gateway process: nothing is shared but the server."""
    with closing(open_store(redis_url, result_ttl_s=60)) as store:
        app = create_app(settings, store)
        yield app
        gateway_of(app).replies.close()


class Counting:
    """Computes as `echo` does, when it may, and remembers for which jobs."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.may_end = threading.Event()

    def __call__(self, fetched: Fetched) -> Outcome:
        """The outcome of one job."""
        self.jobs.append(fetched.spec.id)
        assert self.may_end.wait(60)
        return echo(fetched)


def test_fifty_concurrent_duplicates_are_one_job_and_one_answer(
    app: Flask, other: Flask, store: Store, worker: FakeWorker
) -> None:
    """They meet two gateways at the same moment; the winner's answer is everybody's."""
    publish(store)
    computed = worker.compute = Counting()
    start = threading.Barrier(DUPLICATES)

    def ask(number: int) -> tuple[int, bytes]:
        client = (app, other)[number % 2].test_client()
        start.wait(60)
        answer = client.post(URL, json=BODY, headers=KEY)
        return answer.status_code, answer.data

    with ThreadPoolExecutor(DUPLICATES) as pool:
        asked = [pool.submit(ask, number) for number in range(DUPLICATES)]
        _wait_until(lambda: bool(computed.jobs))
        computed.may_end.set()
        answers = {future.result() for future in asked}
    [(status, body)] = answers
    assert status == 200
    assert [json.loads(body)["job"]] == computed.jobs
    conservation = store.telemetry.conservation()
    assert (conservation.accepted, conservation.drift) == (1, 0)


def test_a_duplicate_of_a_settled_request_gets_its_answer(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Byte for byte, and in whichever type it asks for."""
    publish(store)
    first = client.post(URL, json=BODY, headers=KEY)
    again = client.post(URL, json=BODY, headers=KEY)
    assert (200, first.data) == (again.status_code, again.data)
    assert first.headers["Fusebox-Job"] == again.headers["Fusebox-Job"]
    packed = client.post(URL, json=BODY, headers=KEY | {"Accept": "application/x-npy"})
    assert ("application/x-npy", first.json["job"]) == (
        packed.content_type,
        packed.headers["Fusebox-Job"],
    )
    assert client.post(URL, json=BODY, headers=KEY | {"Accept": "text/html"}).status_code == 406
    assert store.telemetry.conservation().accepted == 1


def test_a_failure_is_replayed_as_well(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """A job that ran and failed has its answer; who wants it to run again takes another key."""
    publish(store)
    worker.compute = lambda _: Outcome.of_error(FunctionFailed("Bad shape."), timings_ms=TIMINGS)
    first = client.post(URL, json=BODY, headers=KEY)
    again = client.post(URL, json=BODY, headers=KEY | {"Accept": "application/x-npz"})
    assert (first.status_code, first.json["code"]) == (500, "function_failed")
    assert (500, first.json) == (again.status_code, again.json)
    anew = client.post(URL, json=BODY, headers={"Idempotency-Key": '"other"'})
    assert anew.json["job_id"] != first.json["job_id"]


def test_duplicates_that_do_not_wait_are_accepted_as_the_same_job(
    client: FlaskClient, store: Store, redis_url: str
) -> None:
    """202 and the same Location, before and after it has settled; a waiting one joins."""
    publish(store)
    hurried = KEY | {"Prefer": "respond-async"}
    first = client.post(URL, json=BODY, headers=hurried)
    again = client.post(URL, json=BODY, headers=hurried)
    polled = client.post(URL, json=BODY, headers=KEY | {"Prefer": "wait=0"})
    job = first.json["job"]
    assert [(202, f"/v1/jobs/{job}", "queued")] * 3 == [
        (answer.status_code, answer.headers["Location"], answer.json["status"])
        for answer in (first, again, polled)
    ]
    worker = FakeWorker(redis_url)
    worker.start()
    waited = client.post(URL, json=BODY, headers=KEY)
    settled = client.post(URL, json=BODY, headers=hurried)
    worker.stop()
    assert (200, job) == (waited.status_code, waited.json["job"])
    assert (202, "succeeded", job) == (
        settled.status_code,
        settled.json["status"],
        settled.json["job"],
    )


@pytest.mark.parametrize("is_settled", [False, True])
def test_a_key_with_another_payload_is_refused(
    client: FlaskClient, store: Store, redis_url: str, is_settled: bool
) -> None:
    """422; also another type of body, or a certain version in place of the latest."""
    publish(store)
    headers = KEY | {"Prefer": "respond-async"}
    job = client.post(URL, json=BODY, headers=headers).json["job"]
    if is_settled:
        worker = FakeWorker(redis_url)
        worker.start()
        assert client.get(f"/v1/jobs/{job}?wait=5").json["status"] == "succeeded"
        worker.stop()
    text = json.dumps(BODY)
    for answer in (
        client.post(URL, json=OTHER, headers=headers),
        client.post(URL, data=text, content_type="application/json; x=y", headers=headers),
        client.post("/v1/functions/echo@1/invoke", json=BODY, headers=headers),
    ):
        assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")
    assert store.telemetry.conservation().accepted == 1


def test_keys_of_two_functions_do_not_meet(client: FlaskClient, store: Store) -> None:
    """The same key is another one for another function."""
    publish(store)
    publish(store, "echo2")
    headers = KEY | {"Prefer": "respond-async"}
    jobs = {
        client.post(f"/v1/functions/{name}/invoke", json=BODY, headers=headers).json["job"]
        for name in ("echo", "echo2")
    }
    assert len(jobs) == 2


def test_a_refused_request_does_not_consume_its_key(client: FlaskClient, store: Store) -> None:
    """Neither a full queue nor a wrong input takes it, so the client may send it again."""
    headers = KEY | {"Prefer": "respond-async"}
    assert client.post(URL, json=BODY, headers=headers).status_code == 404
    publish(store)
    assert client.post(URL, json={"inputs": {}}, headers=headers).status_code == 422
    fill = {"Prefer": "respond-async"}
    while (full := client.post(URL, json=BODY, headers=fill)).status_code == 202:
        last = full.json["job"]
    assert client.post(URL, json=OTHER, headers=headers).status_code == 429
    client.delete(f"/v1/jobs/{last}")
    accepted = client.post(URL, json=BODY, headers=headers)
    assert accepted.status_code == 202
    # the queue is full again, which does not touch what was accepted
    again = client.post(URL, json=BODY, headers=headers)
    assert (202, accepted.json["job"]) == (again.status_code, again.json["job"])


def test_a_duplicate_is_answered_whatever_became_of_the_function(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """A deployment with other inputs, or a removal, does not undo what was answered."""
    publish(store)
    first = client.post(URL, json=BODY, headers=KEY)
    wider = replace(
        MANIFEST, inputs=(X._replace(shape=(None, 5)),), outputs=(X._replace(shape=(None, 5)),)
    )
    publish(store, manifest=wider)
    assert first.data == client.post(URL, json=BODY, headers=KEY).data
    client.delete("/v1/functions/echo")
    assert first.data == client.post(URL, json=BODY, headers=KEY).data


def test_a_key_is_kept_as_long_as_the_result(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """The two expire together; while the job goes on, neither does."""
    publish(store)
    server = store.server.redis
    queued = client.post(
        URL, json=BODY, headers={"Idempotency-Key": '"q"', "Prefer": "respond-async"}
    ).json["job"]
    client.get(f"/v1/jobs/{queued}?wait=5")
    [key] = server.keys("fb:idem:*")
    assert server.ttl(key) > 0
    assert server.pexpiretime(key) == server.pexpiretime(f"fb:job:{queued}")
    server.delete(f"fb:job:{queued}", key)
    fresh = client.post(URL, json=BODY, headers={"Idempotency-Key": '"q"'})
    assert (fresh.status_code, fresh.json["job"] != queued) == (200, True)


def test_a_key_of_a_queued_job_does_not_expire(client: FlaskClient, store: Store) -> None:
    """However long it takes until somebody computes it."""
    publish(store)
    client.post(URL, json=BODY, headers=KEY | {"Prefer": "respond-async"})
    [key] = store.server.redis.keys("fb:idem:*")
    assert store.server.redis.ttl(key) == -1


@pytest.mark.parametrize("header", ["", "bare", '""', '"a', '"a"b', '"a", "b"', '"é"', "1"])
def test_a_key_that_is_no_quoted_string_is_refused(
    client: FlaskClient, store: Store, header: str
) -> None:
    """400 before anything is accepted."""
    publish(store)
    answer = client.post(URL, json=BODY, headers={"Idempotency-Key": header})
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")
    assert "Idempotency-Key: expected a quoted string" in answer.json["detail"]
    assert store.telemetry.conservation().accepted == 0


def _wait_until(is_so: Callable[[], bool], patience_s: float = 60.0) -> None:
    give_up_at_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < give_up_at_s
        time.sleep(0.01)  # the worker is a thread without an event for this
