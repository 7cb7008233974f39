"""Invocations over a real store."""

from __future__ import annotations

import io
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from contract.errors import DeadlineUnmeetable, FunctionFailed
from contract.function import FunctionRef
from contract.job import Outcome
from contract.settings import Settings
from contract.store import Store, open_store
from contract.store.queue import Cursor, Fetched
from contract.tensors import decode_tensor, encode_tensor
from gateway.app import create_app, gateway_of
from gateway.numpy_files import read_npy, read_npz, write_npy
from tests.integration.gateway.builders import TIMINGS, FakeWorker, publish, rows, succeeded
from tests.unit.gateway.manifests import MANIFEST, WITH_HOOKS, X

URL = "/v1/functions/echo/invoke"
BODY = {"inputs": {"x": [[1.0, 2.5, -3.0, 4.0]]}}


def test_a_call_is_answered_with_its_outputs(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """JSON in, JSON out, with the job's id, its timings and its group."""
    publish(store)
    answer = client.post(URL, json=BODY)
    assert answer.status_code == 200
    assert answer.json == {
        "job": answer.headers["Fusebox-Job"],
        "function": "echo",
        "version": 1,
        "outputs": BODY["inputs"],
        "timings_ms": TIMINGS,
        "group": {"jobs": 2, "functions": 1},
    }
    timing = "queue;dur=0.5, swap;dur=0, build;dur=0.25, compute;dur=1, hooks;dur=0, total;dur=2"
    assert answer.headers["Server-Timing"] == timing
    assert store.telemetry.conservation().drift == 0


def test_the_answer_comes_in_the_type_that_is_asked_for(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """The same array four times."""
    publish(store)

    def ask(accept: str) -> bytes:
        headers = {"Accept": accept, "Content-Type": "application/x-npy"}
        answer = client.post(URL, data=write_npy(rows(2)), headers=headers)
        assert (200, accept) == (answer.status_code, answer.content_type)
        return answer.data

    packed = msgpack.unpackb(ask("application/msgpack"))["outputs"]["x"]
    np.testing.assert_array_equal(rows(2), decode_tensor("x", packed))
    np.testing.assert_array_equal(rows(2), read_npy(ask("application/x-npy")))
    np.testing.assert_array_equal(rows(2), read_npz(ask("application/x-npz"), 10**6)["x"])
    np.testing.assert_array_equal(rows(2), np.load(io.BytesIO(ask("application/x-npy"))))


def test_what_json_cannot_say_becomes_null(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """NaN and infinities keep their values in the other types."""
    publish(store)
    odd = np.array([[np.nan, np.inf, -np.inf, 1]], np.float32)
    body = msgpack.packb({"inputs": {"x": encode_tensor(odd)}})
    answer = client.post(URL, data=body, content_type="application/msgpack")
    assert answer.json["outputs"]["x"] == [[None, None, None, 1.0]]


def test_a_function_with_hooks_gets_the_body_and_answers_a_result(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """The whole body is the payload of preprocess."""
    publish(store, manifest=WITH_HOOKS)
    answer = client.post(URL, data=b'{"text": 1}', content_type="application/json; charset=utf-8")
    assert answer.json["result"] == {"type": "application/json", "body": '{"text": 1}'}
    assert "outputs" not in answer.json
    png = client.post(URL, data=b"\x89PNG", content_type="image/png")
    assert png.json["result"] == {"type": "image/png", "body": "\x89PNG"}


def test_a_call_that_prefers_it_is_accepted_and_polled(
    app: Flask, client: FlaskClient, store: Store, redis_url: str
) -> None:
    """202 with Location, then a long poll."""
    publish(store)
    answer = client.post(URL, json=BODY, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    job = answer.json["job"]
    assert answer.headers["Location"] == f"/v1/jobs/{job}"
    assert answer.headers["Fusebox-Job"] == job
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert "Prefer" in answer.headers["Vary"]
    assert re.fullmatch(r"total;dur=[0-9.e-]+", answer.headers["Server-Timing"])
    record = {"function": "echo", "version": 1, "status": "queued", "attempts": 0}
    assert record | {"job": job, "timings_ms": {}} == {
        key: value for key, value in answer.json.items() if key != "created_at"
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer.json["created_at"])
    with ThreadPoolExecutor(1) as pool:
        polled = pool.submit(app.test_client().get, f"/v1/jobs/{job}?wait=5")
        worker = FakeWorker(redis_url)
        worker.start()
        found = polled.result()
        worker.stop()
    assert (found.status_code, found.json["status"]) == (200, "succeeded")
    assert found.json["outputs"] == BODY["inputs"]
    assert found.json["attempts"] == 1


@pytest.mark.parametrize("prefer", ["wait=0", "wait=0.05, respond-async"])
def test_a_wait_that_ends_first_is_answered_202(
    client: FlaskClient, store: Store, prefer: str
) -> None:
    """The job goes on."""
    publish(store)
    answer = client.post(URL, json=BODY, headers={"Prefer": prefer})
    assert (answer.status_code, answer.json["status"]) == (202, "queued")
    assert store.telemetry.conservation().queued == 1


def test_a_result_within_the_wait_is_the_answer(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """200, and the preference is still said to be applied."""
    publish(store)
    answer = client.post(URL, json=BODY, headers={"Prefer": "wait=5"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=5")


def test_a_failed_job_is_the_problem_it_failed_with(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """A synchronous call gets the status of the error, and the job keeps it."""
    worker.compute = lambda _: Outcome.of_error(FunctionFailed("Bad shape."), timings_ms=TIMINGS)
    publish(store)
    answer = client.post(URL, json=BODY)
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    job = answer.headers["Fusebox-Job"]
    assert ("function_failed", "Bad shape.", job) == tuple(
        answer.json[key] for key in ("code", "detail", "job_id")
    )
    assert answer.json["instance"] == f"/v1/jobs/{job}"
    shown = client.get(answer.json["instance"])
    assert (shown.status_code, shown.json["status"]) == (200, "failed")
    assert shown.json["error"] == {"code": "function_failed", "detail": "Bad shape."}


def test_a_call_gives_up_at_its_deadline(client: FlaskClient, store: Store) -> None:
    """504, though nobody settled the job."""
    publish(store, manifest=replace(MANIFEST, timeout_ms=50))
    began_s = time.monotonic()
    answer = client.post(URL, json=BODY)
    assert (answer.status_code, answer.json["code"]) == (504, "deadline_exceeded")
    assert answer.json["job_id"] == answer.headers["Fusebox-Job"]
    assert time.monotonic() - began_s < 3


@pytest.mark.parametrize("name", ["nope", "echo@9", "No", "echo@-x", "a%2Fb", "%FF"])
def test_an_unknown_function_is_not_found(client: FlaskClient, store: Store, name: str) -> None:
    """404 for names that cannot exist, too."""
    publish(store)
    answer = client.post(f"/v1/functions/{name}/invoke", json=BODY)
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_function")


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "code"),
    [
        (b"{", "application/json", "*/*", 400, "malformed_body"),
        (b"{}", "application/json", "*/*", 422, "invalid_input"),
        (b"{}", "text/plain", "*/*", 415, "unsupported_media_type"),
        (b"{}", "application/json", "text/html", 406, "not_acceptable"),
        (b" " * 100_001, "application/json", "*/*", 413, "payload_too_large"),
    ],
)
def test_a_wrong_request_is_refused_before_it_is_a_job(
    client: FlaskClient,
    store: Store,
    body: bytes,
    content_type: str,
    accept: str,
    status: int,
    code: str,
) -> None:
    """Nothing is accepted."""
    publish(store)
    headers = {"Content-Type": content_type, "Accept": accept}
    answer = client.post(URL, data=body, headers=headers)
    assert (status, code) == (answer.status_code, answer.json["code"])
    assert answer.content_type == "application/problem+json"
    assert store.telemetry.conservation().accepted == 0


def test_a_full_queue_says_when_to_come_back(client: FlaskClient, store: Store) -> None:
    """429 with Retry-After; the limit of the function is 4."""
    publish(store)
    answers = [client.post(URL, json=BODY, headers={"Prefer": "respond-async"}) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202] * 4 + [429]
    last = answers[-1]
    assert (
        last.headers["Retry-After"],
        last.json["code"],
        last.json["retry_after_ms"],
    ) == ("1", "queue_full", 1000)


def test_a_job_that_would_wait_too_long_is_refused(client: FlaskClient, store: Store) -> None:
    """429 with the predicted wait, and when to come back."""
    publish(store, manifest=replace(MANIFEST, timeout_ms=1_500))
    store.telemetry.set_drain({"echo": 0.5})
    prefer = {"Prefer": "respond-async"}
    deep = Settings(queue_limit=100, function_queue_limit=100)
    wide = create_app(deep, store).test_client()
    answers = [wide.post(URL, json=BODY, headers=prefer) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202] * 4 + [429]
    last = answers[-1]
    assert (last.headers["Retry-After"], last.json["code"]) == ("7", "wait_too_long")
    assert (last.json["predicted_wait_ms"], last.json["retry_after_ms"]) == (8000, 6500)
    assert last.json["function"] == "echo"


def test_beyond_a_number_of_waiters_nobody_waits(store: Store) -> None:
    """202 at once for calls, the record as it is for polls."""
    publish(store)
    app = create_app(Settings(max_waiters=0), store)
    answer = app.test_client().post(URL, json=BODY)
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers
    shown = app.test_client().get(answer.headers["Location"] + "?wait=60")
    assert (shown.status_code, shown.json["status"]) == (200, "queued")


def test_a_deployment_counts_from_its_moment_on(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """A version that this process remembers is refused by the store, and looked up again."""
    publish(store)
    assert client.post(URL, json=BODY).json["version"] == 1
    wider = X._replace(shape=(None, 1))
    publish(store, manifest=replace(MANIFEST, inputs=(wider,)))
    assert client.post(URL, json=BODY).status_code == 422
    assert client.post(URL, json={"inputs": {"x": [[1]]}}).json["version"] == 2
    assert client.post("/v1/functions/echo@1/invoke", json=BODY).json["version"] == 1
    store.functions.retire(FunctionRef("echo", 2))
    assert client.post(URL, json=BODY).json["version"] == 1
    publish(store, manifest=replace(MANIFEST, inputs=(wider,)))
    assert client.post(URL, json={"inputs": {"x": [[1]]}}).json["version"] == 3
    store.functions.retire(FunctionRef("echo"))
    assert client.post(URL, json=BODY).status_code == 404
    assert client.post("/v1/functions/echo@1/invoke", json=BODY).status_code == 404


def test_without_a_store_nothing_is_accepted(tmp_path: Path, settings: Settings) -> None:
    """503, never a fake 202."""
    store = open_store(f"unix://{tmp_path}/nobody")
    app = create_app(settings, store)
    answer = app.test_client().post(URL, json=BODY, headers={"Prefer": "respond-async"})
    assert (answer.status_code, answer.json["code"]) == (503, "store_unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert app.test_client().get("/healthz").status_code == 200
    store.close()


def test_an_unknown_error_is_internal(app: Flask, store: Store, worker: FakeWorker) -> None:
    """An outcome that this version cannot read leaks nothing."""
    publish(store)
    worker.compute = lambda _: succeeded(outputs={"x": {"dtype": "secret"}})
    answer = app.test_client().post(URL, json=BODY)
    assert (answer.status_code, answer.json["code"]) == (500, "internal")
    assert b"secret" not in answer.data


def test_replies_lost_with_their_connection_are_read_again(
    app: Flask, store: Store, redis_url: str
) -> None:
    """A publication made while the gateway was not subscribed still arrives."""
    publish(store)
    settled = threading.Event()

    def compute(fetched: Fetched) -> Outcome:
        # the subscription dies before the reply is published
        store.server.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        settled.set()
        return succeeded(outputs=msgpack.unpackb(fetched.payload))

    worker = FakeWorker(redis_url, compute)
    worker.start()
    answer = app.test_client().post(URL, json=BODY)
    worker.stop()
    assert settled.is_set()
    assert (200, BODY["inputs"]) == (answer.status_code, answer.json["outputs"])


def test_concurrent_calls_get_their_own_answers(
    app: Flask, store: Store, worker: FakeWorker
) -> None:
    """One listener, one commit at a time, and nobody's answer goes astray."""
    publish(store)

    def call(i: int) -> bool:
        x = [[float(i)] * 4]
        answer = app.test_client().post(URL, json={"inputs": {"x": x}})
        return answer.status_code == 200 and answer.json["outputs"]["x"] == x

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(200)))
    assert len(store.server.redis.pubsub_channels("fb:replies:*")) == 1
    assert store.telemetry.conservation().settled["succeeded"] == 200


def test_a_draining_gateway_lets_polls_go(app: Flask, store: Store) -> None:
    """Those who may be answered 202 are, at once; readiness ends."""
    publish(store)
    gateway = gateway_of(app)
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(
            lambda: app.test_client().post(URL, json=BODY, headers={"Prefer": "wait=60"})
        )
        while store.telemetry.conservation().queued < 1:
            assert not call.done()
        gateway.drain()
        assert call.result(3).status_code == 202
    assert app.test_client().get("/readyz").json["missing"] == ["gateway"]


def test_a_draining_gateway_waits_for_the_others_until_its_last_call(
    app: Flask, store: Store
) -> None:
    """A call without preference is answered 202 only when the process must end."""
    publish(store)
    gateway = gateway_of(app)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: app.test_client().post(URL, json=BODY))
        while store.telemetry.conservation().queued < 1:
            assert not call.done()
        began_s = time.monotonic()
        gateway.drain()
        assert call.result(10).status_code == 202
    # drain_s is 3, the last call 2 before its end
    assert 0.5 < time.monotonic() - began_s < 3


def test_a_job_keeps_the_priority_it_was_sent_with(client: FlaskClient, store: Store) -> None:
    """0 unless the header says otherwise; what is no priority is refused."""
    publish(store)
    headers = {"Prefer": "respond-async"}
    for sent, expected in (({}, 0), ({"Fusebox-Priority": "9"}, 9)):
        answer = client.post(URL, json=BODY, headers=headers | sent)
        assert answer.status_code == 202
        assert store.jobs.get(answer.json["job"]).spec.priority == expected
    answer = client.post(URL, json=BODY, headers={"Fusebox-Priority": "12"})
    assert (answer.status_code, answer.json["field"]) == (422, "Fusebox-Priority")


def test_a_refused_job_is_answered_with_what_was_predicted(
    client: FlaskClient, store: Store
) -> None:
    """While its call waits: 503, when to try again, and the job's id."""
    publish(store)
    error = DeadlineUnmeetable("", reason="too_long", earliest_end=2.0, deadline=1.0)
    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(client.post, URL, json=BODY)
        link, cursor = store.server.blocking(), Cursor()
        [spec] = store.queue.wait(link, cursor, 10).jobs
        assert store.queue.refuse([(spec.id, error)]) == 1
        assert store.queue.refuse([(spec.id, error)]) == 0
        answer = called.result(10)
        link.close()
    assert (answer.status_code, answer.json["code"]) == (503, "deadline_unmeetable")
    assert answer.headers["Retry-After"] == "1"
    assert (answer.json["job_id"], answer.json["reason"]) == (spec.id, "too_long")
    assert client.get(f"/v1/jobs/{spec.id}").json["status"] == "refused"
