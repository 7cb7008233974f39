"""Weights on request, over a real store and a worker that reports what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient

from contract.errors import OutOfMemory
from contract.store import Store
from contract.store.wanted import Place, Progress, Want, WantReport
from tests.integration.gateway.builders import publish, report

LOAD, UNLOAD = "/v1/functions/echo/load", "/v1/functions/echo/unload"
PATIENCE_S = 20.0
Ask = Callable[[str], "Future[Any]"]


@pytest.fixture
def ask(client: FlaskClient) -> Iterator[Ask]:
    """Sends a request on a thread, since it waits."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda url: pool.submit(client.post, url)


def noted(store: Store, future: Future[Any]) -> Want:
    """The want that the request has noted."""
    while not future.done():
        if found := store.wanted.all():
            return found[0]
    raise AssertionError(future.result().text)


def say(store: Store, want: Want, progress: Progress, worker: str = "w1", **why: str) -> None:
    """A heartbeat that says what became of the want."""
    made = {str(want.ref): WantReport(want.number, progress, **why)}
    store.workers.report(report(id=worker, wanted=made), 600, is_news=False)


@pytest.mark.parametrize(("url", "state"), [(LOAD, "loaded"), (UNLOAD, "unloaded")])
def test_the_answer_comes_when_every_worker_has_reported(
    ask: Ask, store: Store, url: str, state: str
) -> None:
    """An older report says nothing of this want."""
    publish(store)
    for worker in ("w1", "w2"):
        old = Want(store.functions.latest()[0], 0, Place.LOADED)
        say(store, old, Progress.DONE, worker)
    future = ask(url)
    want = noted(store, future)
    say(store, want, Progress.DONE, "w1")
    assert not future.done()
    say(store, want, Progress.DONE, "w2")
    answer = future.result(PATIENCE_S)
    assert answer.status_code == 200
    assert answer.json == {
        "name": "echo",
        "version": 1,
        "state": state,
        "workers": {"w1": "done", "w2": "done"},
    }


def test_loaded_is_what_one_worker_could_load(ask: Ask, store: Store) -> None:
    """Budgets may differ."""
    publish(store)
    store.workers.report(report(), 600, is_news=False)
    store.workers.report(report(id="w2"), 600, is_news=False)
    future = ask(LOAD)
    want = noted(store, future)
    say(store, want, Progress.FAILED, "w2", code="out_of_memory", detail="too large")
    say(store, want, Progress.DONE, "w1")
    answer = future.result(PATIENCE_S)
    assert (answer.status_code, answer.json["state"]) == (200, "loaded")
    assert answer.json["workers"] == {"w1": "done", "w2": "failed"}


def test_where_no_worker_could_the_reason_is_the_answer_and_nothing_is_wanted(
    ask: Ask, store: Store
) -> None:
    """A failure leaves things as they were."""
    publish(store)
    store.workers.report(report(), 600, is_news=False)
    future = ask(LOAD)
    say(store, noted(store, future), Progress.FAILED, code="out_of_memory", detail="too large")
    answer = future.result(PATIENCE_S)
    assert (answer.status_code, answer.json["code"]) == (507, OutOfMemory.code)
    assert answer.json["detail"] == "too large"
    assert store.wanted.all() == []


def test_what_takes_longer_goes_on(client: FlaskClient, store: Store) -> None:
    """202, and the want stays."""
    publish(store)
    store.workers.report(report(), 600, is_news=False)
    answer = client.post(LOAD + "?wait=0.05")
    assert (answer.status_code, answer.json["state"]) == (202, "loading")
    assert [want.place for want in store.wanted.all()] == [Place.LOADED]


def test_without_a_worker_nothing_is_loaded_and_all_is_unloaded(
    client: FlaskClient, store: Store
) -> None:
    """A worker that drains is none."""
    publish(store)
    store.workers.report(report(is_draining=True), 600, is_news=True)
    assert client.post(LOAD).status_code == 503
    assert store.wanted.all() == []
    assert client.post(UNLOAD).json["state"] == "unloaded"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/v1/functions/nope/load", 404),
        ("/v1/functions/echo@9/unload", 404),
        (LOAD + "?wait=x", 422),
    ],
)
def test_what_cannot_be_is_refused(
    client: FlaskClient, store: Store, url: str, status: int
) -> None:
    """Unknown versions, and waits that are no numbers."""
    publish(store)
    store.workers.report(report(), 600, is_news=False)
    assert client.post(url).status_code == status
