"""One platform for all faults: two workers, two gateways, two schedulers, short leases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench._platform import Platform, running_platform
from contract import keys
from contract.job import JobId
from contract.store import Store, open_store
from tests.e2e.faults.functions import PLAIN, Gate, deploy_gated, deploy_source
from tests.e2e.faults.processes import children
from tests.e2e.faults.trial import Trial, run_trial
from tests.e2e.faults.waiting import eventually

# longer than the 3 s after which a silent worker is gone, as by default
LEASE_S = 4.0
WORKERS = 2
RunTrial = Callable[[str], AbstractContextManager[Trial]]


@dataclass(frozen=True)
class Cluster:
    """A platform, its processes by role, and a look into its store."""

    platform: Platform
    store: Store
    gate: Gate

    @property
    def workers(self) -> list[int]:
        """Pids of the worker processes."""
        return self._children("workers.worker")

    @property
    def schedulers(self) -> list[int]:
        """Pids of the schedulers, active and standing by."""
        return self._children("workers.scheduling")

    @property
    def gateway(self) -> int | None:
        """Pid of gunicorn, the parent of the gateway processes."""
        return next(iter(self._children("gateway.server")), None)

    @property
    def gateways(self) -> list[int]:
        """Pids of the gateway processes."""
        return [] if self.gateway is None else children(self.gateway)

    @property
    def events(self) -> list[int]:
        """Pids of the events processes, the one that leads and its standby."""
        return self._children("gateway.events")

    @property
    def server(self) -> int | None:
        """Pid of the embedded store."""
        return next(iter(self._children("valkey")), None)

    @property
    def active_scheduler(self) -> int | None:
        """Pid of the scheduler that says of itself that it leads."""
        token: Any = self.store.server.redis.get(keys.leader("scheduler"))
        return None if token is None else int(token.partition(b"-")[0])

    def wait_whole(self) -> None:
        """Wait until everything that was killed has been replaced."""
        self.platform.wait_ready()
        eventually(lambda: self.reporting == set(self.workers), "two workers that report")
        eventually(lambda: len(self.schedulers) == 2, "two schedulers")

    @property
    def reporting(self) -> set[int]:
        """Pids of the workers whose heartbeats are fresh."""
        found = {report.pid for report in self.store.workers.all()}
        return found if len(found) == WORKERS else set()

    def worker_id(self, pid: int) -> str:
        """The name under which a worker process reports."""
        return next(report.id for report in self.store.workers.all() if report.pid == pid)

    def worker_of(self, job: str) -> int:
        """Pid of the worker that holds a running job."""
        name: Any = self.store.server.redis.hget(keys.job(JobId(job)), "worker")
        return next(report.pid for report in self.store.workers.all() if report.id == name.decode())

    def _children(self, words: str) -> list[int]:
        return children(self.platform.process.pid, words)


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that triggers may watch."""
    return tmp_path_factory.mktemp("watched")


@pytest.fixture(scope="package")
def faulty_cluster(tmp_path_factory: pytest.TempPathFactory, watched: Path) -> Iterator[Cluster]:
    """The platform; what one test kills is back before the next begins."""
    folder = tmp_path_factory.mktemp("functions")
    with running_platform(
        FUSEBOX_WORKERS=str(WORKERS),
        FUSEBOX_COMPUTE_THREADS="1",
        FUSEBOX_LEASE_S=str(LEASE_S),
        FUSEBOX_HEARTBEAT_S="0.25",
        FUSEBOX_DRAIN_S="5",
        # the gate of `functions.py` is a file
        FUSEBOX_HANDLER_REACH="all",
        FUSEBOX_WATCH=str(watched),
        FUSEBOX_WEBHOOK_ALLOW="127.0.0.1",
    ) as platform:
        deploy_source(platform.url, folder, "plain", PLAIN)
        gate = deploy_gated(platform.url, folder)
        store = open_store(f"unix://{platform.data / 'store.sock'}")
        yield Cluster(platform, store, gate)
        store.close()


@pytest.fixture
def cluster(faulty_cluster: Cluster) -> Cluster:
    """The platform, whole."""
    faulty_cluster.wait_whole()
    return faulty_cluster


@pytest.fixture
def trial(cluster: Cluster) -> RunTrial:
    """Runs a fault under load and accounts for every job."""

    @contextmanager
    def run(fault: str) -> Iterator[Trial]:
        with run_trial(cluster.platform.url, fault) as running:
            yield running
        # a group that nobody ends would keep a place of its worker for good
        eventually(lambda: not cluster.store.queue.groups(), "every group to end")

    return run
