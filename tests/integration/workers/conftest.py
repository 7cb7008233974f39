"""A platform over the embedded server, and workers that leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.store import open_store
from tests.integration.conftest import running_server
from tests.integration.workers.builders import Platform, WorkerProcess


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A store and artifacts of the module's own."""
    with running_server("embedded") as url:
        store = open_store(url, result_ttl_s=60)
        opened = Platform.start(store, Path(tmp_path_factory.mktemp("data")))
        yield opened
        opened.stop()
        store.close()


@pytest.fixture(scope="module")
def worker(platform: Platform) -> Iterator[WorkerProcess]:
    """A worker that the module's tests share."""
    started = WorkerProcess.start(platform)
    yield started
    assert started.stop() == 0


@pytest.fixture
def start_worker(platform: Platform) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers with settings of their own."""
    started: list[WorkerProcess] = []

    def start(**settings: str) -> WorkerProcess:
        # hooks wait for files of the test
        reach = {"FUSEBOX_HANDLER_REACH": "all"}
        started.append(WorkerProcess.start(platform, **reach | settings))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)
