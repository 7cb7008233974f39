"""A gateway over a real store, and the triggers' service as the process that leads runs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from contract.settings import Settings
from contract.store import Store
from gateway.app import create_app, gateway_of
from gateway.context import Gateway
from gateway.triggers.service import run
from tests.integration.gateway.builders import FakeWorker

PATIENCE_S = 20.0
Leading = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Defaults with small limits, and one folder that may be watched."""
    folder = tmp_path / "in"
    folder.mkdir()
    return Settings(
        data=tmp_path,
        queue_limit=40,
        function_queue_limit=20,
        max_body_bytes=100_000,
        drain_s=3.0,
        watched=(str(folder),),
    )


@pytest.fixture
def app(settings: Settings, store: Store) -> Iterator[Flask]:
    """The application, whose listener is stopped at the end."""
    app = create_app(settings, store)
    yield app
    gateway_of(app).replies.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the application."""
    return app.test_client()


@pytest.fixture
def worker(redis_url: str, store: Store) -> Iterator[FakeWorker]:
    """Somebody who answers what is invoked."""
    worker = FakeWorker(redis_url)
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def leading(settings: Settings, store: Store) -> Leading:
    """Runs the service while it is entered; what ends it by itself fails the test."""

    @contextmanager
    def lead() -> Iterator[None]:
        stop, raised = threading.Event(), []

        def body() -> None:
            try:
                run(Gateway.wire(settings, store), stop)
            except Exception as error:
                raised.append(error)
                raise

        thread = threading.Thread(target=body)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert raised == []

    return lead


def eventually(look: Callable[[], Any], what: str) -> Any:
    """The first truthy value that `look` gives; other threads offer nothing to wait on."""
    give_up_at_s = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < give_up_at_s, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.02)
    return found


def make(client: FlaskClient, name: str, **wanted: Any) -> dict[str, Any]:
    """Make a trigger of `echo`."""
    answer = client.post("/v1/triggers", json={"name": name, "function": "echo"} | wanted)
    assert answer.status_code == 201, answer.text
    record: dict[str, Any] = answer.json
    return record


def trigger(client: FlaskClient, name: str) -> dict[str, Any]:
    """A trigger as it is shown."""
    record: dict[str, Any] = client.get(f"/v1/triggers/{name}").json
    return record


def queued(store: Store) -> list[Any]:
    """The jobs that wait, oldest first."""
    entries: Any = store.server.redis.xrange("fb:pending")
    return [store.jobs.get(fields[b"j"].decode()) for _, fields in entries]
