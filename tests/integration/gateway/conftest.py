"""A gateway over a real store, with and without somebody who works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from contract.settings import Settings
from contract.store import Store
from gateway.app import create_app, gateway_of
from tests.integration.gateway.builders import FakeWorker


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Defaults, with small limits."""
    return Settings(
        data=tmp_path,
        queue_limit=8,
        function_queue_limit=4,
        max_body_bytes=100_000,
        max_artifact_bytes=1_000_000,
        max_wait_s=5.0,
        drain_s=3.0,
    )


@pytest.fixture
def app(settings: Settings, store: Store) -> Iterator[Flask]:
    """The application, whose listener is stopped at the end."""
    app = create_app(settings, store)
    yield app
    gateway_of(app).replies.close()
    gateway_of(app).following.close()


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
