"""The Python client against the real gateway: each call is understood, and one job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from werkzeug.serving import make_server

from contract.access import Wish, mint
from contract.errors import (
    FuseboxError,
    HandlerFailed,
    IdempotencyKeyReused,
    InvalidInput,
    JobCancelled,
    QueueFull,
    Unauthorized,
    UnknownFunction,
    UnknownJob,
)
from contract.job import Outcome, Status
from contract.settings import Settings
from contract.store import Store
from contract.store.queue import Fetched
from deploy.client import NEVER, AsyncClient, Client, Retries, WaitTimeout
from gateway.app import create_app, gateway_of
from tests.integration.gateway.builders import FakeWorker, echo, publish, rows
from tests.unit.gateway.manifests import WITH_HOOKS

# what is sent does not depend on the kind of server
pytestmark = pytest.mark.parametrize("redis_url", ["embedded"], indirect=True)
X = rows(2)
Serve = Callable[[Settings], str]


@pytest.fixture
def serve(store: Store) -> Iterator[Serve]:
    """Gateways on ports of their own; gives the URL of each."""
    running: list[tuple[Flask, Any, threading.Thread]] = []

    def start(settings: Settings) -> str:
        app = create_app(settings, store)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((app, server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for app, server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()
        gateway_of(app).replies.close()


@pytest.fixture
def url(serve: Serve, store: Store, tmp_path: Path) -> str:
    """A gateway with `echo`, and `hooked`, which has hooks."""
    publish(store, "echo")
    publish(store, "hooked", WITH_HOOKS)
    return serve(Settings(data=tmp_path, queue_limit=8, function_queue_limit=4))


@pytest.fixture
def worker(redis_url: str, store: Store) -> Iterator[FakeWorker]:
    """Somebody who works; a payload that says so fails."""

    def compute(fetched: Fetched) -> Outcome:
        if fetched.payload == b'"fail"':
            return Outcome.of_error(HandlerFailed("it was asked to"), Status.FAILED)
        return echo(fetched)

    worker = FakeWorker(redis_url, compute)
    worker.start()
    yield worker
    worker.stop()


def accepted(store: Store) -> int:
    """How many jobs there ever were."""
    return store.telemetry.conservation().accepted


@pytest.mark.usefixtures("worker")
def test_arrays_go_in_and_come_out(url: str) -> None:
    """Alone, by name, as nested lists; exactly, NaN and infinities too."""
    odd = X.copy()
    odd[0] = [np.nan, np.inf, -np.inf, 1e-45]
    with Client(url) as client:
        for given in (odd, {"x": odd}):
            answer = client.invoke("echo", given)
            np.testing.assert_array_equal(answer.output, odd, strict=True)
        answer = client.invoke("echo@1", {"x": [[1, 2, 3, 4]]}, timeout_s=20, priority=9)
    np.testing.assert_array_equal(answer["x"], np.float32([[1, 2, 3, 4]]), strict=True)
    assert (answer.function, answer.version, answer.group["jobs"]) == ("echo", 1, 2)


@pytest.mark.usefixtures("worker")
def test_payloads_reach_the_hooks_as_they_are(url: str) -> None:
    """With the type that says what they are."""
    with Client(url) as client:
        assert client.invoke("hooked", payload={"a": None}).result == {
            "type": "application/json",
            "body": '{"a": null}',
        }
        text = client.invoke("hooked", payload="Grüße", content_type="text/plain; charset=utf-8")
        assert text["type"] == "text/plain; charset=utf-8"
        assert client.invoke("hooked", payload=b"\0\1")["body"] == "\0\1"
        assert client.invoke("hooked", payload=X)["type"] == "application/x-npy"
        assert client.invoke("hooked", payload={"a": X})["type"] == "application/x-npz"


@pytest.mark.usefixtures("worker")
def test_errors_are_those_of_the_platform(url: str) -> None:
    """By type, with the job where there was one."""
    with Client(url) as client:
        with pytest.raises(InvalidInput, match=r"inputs.x: expected dtype float32, got"):
            client.invoke("echo", X.astype(np.float64))
        with pytest.raises(UnknownFunction):
            client.invoke("nobody", X)
        with pytest.raises(HandlerFailed, match="it was asked to") as caught:
            client.invoke("hooked", payload="fail")
        job = client.job(caught.value.extensions["job_id"])
        assert (job.status(), job.done()) == ("failed", True)
        with pytest.raises(HandlerFailed, match="it was asked to") as again:
            job.result()
        assert again.value.extensions == caught.value.extensions
        with pytest.raises(UnknownJob):
            client.job("0" * 24).result()


def test_a_job_is_a_future(url: str, store: Store, redis_url: str) -> None:
    """It can be asked for, waited for, and cancelled as long as it has no result."""
    with Client(url) as client:
        job, other = client.submit("echo", X), client.submit("hooked", payload=[1], priority=1)
        assert (job.status(), job.done(), job.id != other.id) == ("queued", False, True)
        with pytest.raises(WaitTimeout, match=job.id):
            job.result(timeout_s=0.05)
        assert other.cancel()
        assert (other.cancel(), other.status()) == (True, "cancelled")
        with pytest.raises(JobCancelled) as caught:
            other.result()
        assert caught.value.extensions["job_id"] == other.id
        worker = FakeWorker(redis_url)
        worker.start()
        try:
            np.testing.assert_array_equal(job.result(timeout_s=20)["x"], X)
        finally:
            worker.stop()
        assert (job.done(), job.cancel()) == (True, False)
        np.testing.assert_array_equal(client.job(job.id).result().output, X, strict=True)


def test_a_call_whose_time_is_over_names_its_job(url: str) -> None:
    """Which goes on."""
    with Client(url) as client:
        with pytest.raises(WaitTimeout) as caught:
            client.invoke("echo", X, timeout_s=0.1)
        assert client.job(caught.value.extensions["job_id"]).status() == "queued"


def test_a_key_stands_for_one_job(url: str, store: Store) -> None:
    """And for one body."""
    with Client(url) as client:
        jobs = {client.submit("echo", X, idempotency_key="k").id for _ in range(3)}
        assert (len(jobs), accepted(store)) == (1, 1)
        with pytest.raises(IdempotencyKeyReused):
            client.submit("echo", X + 1, idempotency_key="k")
        assert client.submit("echo", X).id not in jobs


def test_a_full_queue_is_waited_for(url: str, store: Store, redis_url: str) -> None:
    """As the platform asks; who does not retry hears of it."""
    with Client(url, retries=NEVER) as once, Client(url, retries=Retries(first_s=0.05)) as client:
        for _ in range(4):
            once.submit("echo", X)
        with pytest.raises(QueueFull) as caught:
            once.submit("echo", X)
        assert caught.value.extensions["retry_after_ms"] > 0
        before = accepted(store)
        worker = FakeWorker(redis_url)
        start = threading.Timer(0.2, worker.start)
        start.start()
        try:
            np.testing.assert_array_equal(client.invoke("echo", X).output, X)
        finally:
            start.join()
            worker.stop()
        assert accepted(store) == before + 1


@pytest.mark.usefixtures("worker")
def test_map_answers_every_item_in_order(url: str) -> None:
    """Errors in their places, or the first of them raised."""
    payloads = [1, "fail", 3, 4]
    with Client(url) as client:
        arrays = list(client.map("echo", (X + n for n in range(20)), concurrency=4))
        for number, answer in enumerate(arrays):
            np.testing.assert_array_equal(answer["x"], X + number)
        found = client.map("hooked", payloads=payloads, return_errors=True)
        bodies = [one if isinstance(one, FuseboxError) else one["body"] for one in found]
        assert bodies[0::2] + bodies[3:] == ["1", "3", "4"]
        assert isinstance(bodies[1], HandlerFailed)
        answers = client.map("hooked", payloads=payloads)
        assert next(answers)["body"] == "1"
        with pytest.raises(HandlerFailed):
            next(answers)
        with pytest.raises(InvalidInput, match="map: expected either"):
            client.map("echo")


@pytest.mark.usefixtures("worker")
def test_tasks_do_the_same(url: str) -> None:
    """Calls, jobs that are awaited, many at once."""

    async def run() -> None:
        async with AsyncClient(url) as client:
            np.testing.assert_array_equal((await client.invoke("echo", X))["x"], X)
            job = await client.submit("echo", X + 1)
            np.testing.assert_array_equal((await job).output, X + 1)
            assert (await job.done(), await job.status(), await job.cancel()) == (
                True,
                "succeeded",
                False,
            )
            many = client.map("echo", (X + n for n in range(20)), concurrency=4, ordered=False)
            sums = [float(answer.output.sum()) async for answer in many]
            assert sorted(sums) == [float((X + n).sum()) for n in range(20)]
            with pytest.raises(HandlerFailed):
                await client.invoke("hooked", payload="fail")
            both = await asyncio.gather(*(client.invoke("echo", X + n) for n in range(3)))
            assert [answer.output[0, 0] for answer in both] == [0, 1, 2]

    asyncio.run(run())


@pytest.mark.usefixtures("worker")
def test_a_guarded_platform_asks_for_the_key(serve: Serve, store: Store, tmp_path: Path) -> None:
    """From the argument; without one nothing is answered."""
    publish(store, "echo")
    guarded = serve(Settings(data=tmp_path, auth="on"))
    key, token = mint(Wish())
    store.api_keys.add(key)
    with Client(guarded, api_key="") as nobody, pytest.raises(Unauthorized):
        nobody.invoke("echo", X)
    with Client(guarded, api_key=token.text) as shop:
        np.testing.assert_array_equal(shop.invoke("echo", X).output, X)
