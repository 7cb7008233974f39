"""Jobs by their id, over a real store."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import msgpack
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from contract.store import Store
from gateway.app import gateway_of
from gateway.numpy_files import read_npy
from tests.integration.gateway.builders import FakeWorker, publish

BODY = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}


def submitted(client: FlaskClient, store: Store) -> str:
    """The id of a job that waits."""
    publish(store)
    answer = client.post(
        "/v1/functions/echo/invoke", json=BODY, headers={"Prefer": "respond-async"}
    )
    job = answer.json["job"]
    assert isinstance(job, str)
    return job


def test_a_job_is_shown_as_it_is(client: FlaskClient, store: Store) -> None:
    """At once, when no wait is asked for."""
    job = submitted(client, store)
    answer = client.get(f"/v1/jobs/{job}")
    assert (
        answer.status_code,
        answer.json["status"],
        answer.json["attempts"],
    ) == (200, "queued", 0)
    assert answer.headers["Fusebox-Job"] == job


def test_a_poll_ends_with_its_time(client: FlaskClient, store: Store) -> None:
    """200 with the job as it is then."""
    job = submitted(client, store)
    began_s = time.monotonic()
    answer = client.get(f"/v1/jobs/{job}?wait=0.3")
    assert (answer.status_code, answer.json["status"]) == (200, "queued")
    assert 0.3 <= time.monotonic() - began_s < 3


def test_everybody_who_polls_is_told(app: Flask, client: FlaskClient, store: Store) -> None:
    """Several polls of one job, one subscription, no repeated reads."""
    job = submitted(client, store)
    with ThreadPoolExecutor(3) as pool:
        polls = [pool.submit(app.test_client().get, f"/v1/jobs/{job}?wait=5") for _ in range(3)]
        waiters = gateway_of(app).replies._waiters
        while len(waiters.get(job, ())) < 3:  # type: ignore[call-overload]  # a JobId is a str
            assert not any(poll.done() for poll in polls)
        # the last of them may still be about to read the record; then it finds it settled
        assert client.delete(f"/v1/jobs/{job}").status_code == 200
        assert [poll.result().json["status"] for poll in polls] == ["cancelled"] * 3
    assert waiters == {}


def test_a_cancelled_job_stays_cancelled(client: FlaskClient, store: Store) -> None:
    """Cancelling again is no error; the error of the job says why there is no result."""
    job = submitted(client, store)
    for _ in range(2):
        answer = client.delete(f"/v1/jobs/{job}")
        assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
        assert answer.json["error"]["code"] == "job_cancelled"
    assert store.telemetry.conservation().drift == 0


def test_a_caller_who_waits_is_told_of_the_cancellation(
    app: Flask, client: FlaskClient, store: Store
) -> None:
    """409 with the code job_cancelled."""
    publish(store)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: app.test_client().post("/v1/functions/echo/invoke", json=BODY))
        waiters = gateway_of(app).replies._waiters
        while store.telemetry.conservation().queued < 1:
            assert not call.done()
        (job,) = waiters
        client.delete(f"/v1/jobs/{job}")
        assert (call.result().status_code, call.result().json["code"]) == (409, "job_cancelled")


def test_a_settled_job_cannot_be_cancelled(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """409, and its outputs stay."""
    publish(store)
    job = client.post("/v1/functions/echo/invoke", json=BODY).json["job"]
    answer = client.delete(f"/v1/jobs/{job}")
    assert (answer.status_code, answer.json["code"]) == (409, "job_settled")
    assert client.get(f"/v1/jobs/{job}").json["outputs"] == BODY["inputs"]


def test_outputs_come_in_the_type_that_is_asked_for(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """The record in msgpack, the array alone in a NumPy type."""
    publish(store)
    job = client.post("/v1/functions/echo/invoke", json=BODY).json["job"]
    url = f"/v1/jobs/{job}"
    packed = client.get(url, headers={"Accept": "application/msgpack"})
    assert msgpack.unpackb(packed.data)["status"] == "succeeded"
    array = client.get(url, headers={"Accept": "application/x-npy"})
    assert array.content_type == "application/x-npy"
    np.testing.assert_array_equal(BODY["inputs"]["x"], read_npy(array.data))
    assert client.get(url, headers={"Accept": "text/html"}).status_code == 406


def test_a_job_without_outputs_is_shown_as_a_record(client: FlaskClient, store: Store) -> None:
    """There is no array yet."""
    job = submitted(client, store)
    answer = client.get(f"/v1/jobs/{job}", headers={"Accept": "application/x-npy"})
    assert (answer.content_type, answer.json["status"]) == ("application/json", "queued")


@pytest.mark.parametrize("job", ["x", "0" * 24, "0" * 23, "G" * 24])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_job_is_not_found(
    client: FlaskClient, store: Store, method: str, job: str
) -> None:
    """Whether its id could exist or not."""
    answer = client.open(f"/v1/jobs/{job}", method=method)
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_job")


@pytest.mark.parametrize("wait", ["x", "-1", "nan", "", "1e99"])
def test_a_wait_that_is_no_time_is_refused(client: FlaskClient, wait: str) -> None:
    """422 names the parameter."""
    answer = client.get(f"/v1/jobs/{'0' * 24}?wait={wait}")
    assert (answer.status_code, answer.json["field"]) == (422, "wait")
