"""Workers on machines of their own: they join, leave, are killed and cut off, under load."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from bench._platform import ROOT, Platform, free_port, running_platform
from deploy.embedded_store import server_command
from tests.e2e.faults.functions import deploy_source
from tests.e2e.faults.processes import children
from tests.e2e.faults.trial import Trial, run_trial
from tests.e2e.faults.waiting import eventually
from tests.e2e.machines.hosts import Host, Machine, network, start_worker, why_not

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

# doubles its input, by way of weights that have to be fetched
SOURCE = """
import torch


class Double(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1, bias=False)
        self.mean = torch.nn.Parameter(torch.full((384, 384), 1 / 384))
        torch.nn.init.constant_(self.linear.weight, 2.0)

    def forward(self, x):
        # tens of milliseconds: more than one worker can do of the load
        same = x.unsqueeze(1).expand(-1, 128, 384)
        for _ in range(32):
            same = same @ self.mean
        return self.linear(same.mean((1, 2)).unsqueeze(-1)).round()


def load():
    return Double()


def example_inputs():
    return {"x": torch.ones(2, 1)}
"""
SETTINGS = {
    "FUSEBOX_COMPUTE_THREADS": "1",
    "FUSEBOX_LEASE_S": "4",
    "FUSEBOX_HEARTBEAT_S": "0.25",
    "FUSEBOX_DRAIN_S": "5",
}
SILENT_S = 20.0


def reports(url: str) -> dict[int, dict[str, Any]]:
    """Workers whose heartbeats are fresh, by process."""
    found = requests.get(f"{url}/v1/workers", timeout=30).json()["workers"]
    return {report["pid"]: report for report in found}


def pid_of(machine: Machine) -> int | None:
    """Its worker process, if it runs."""
    # `ip netns exec` becomes the program
    return next(iter(children(machine.process.pid, "workers.worker")), None)


def wait_used(url: str, machine: Machine) -> int:
    """Wait until the machine's worker has computed; its process."""

    def used() -> int | None:
        assert machine.process.poll() is None, machine.log.read_text()[-3000:]
        pid = pid_of(machine)
        cache = reports(url).get(pid or 0, {}).get("dag_cache", {})
        return pid if cache.get("misses") else None

    return eventually(used, "jobs for the worker that joined")


@contextmanager
def joined(data: Path, platform: Platform) -> Iterator[Machine]:
    """One more worker, with a data folder of its own, of a platform on this machine."""
    artifacts = f"{platform.url}/v1/artifacts"
    store = f"unix://{platform.data / 'store.sock'}"
    machine = start_worker(data, store, artifacts, {**platform.environ, **SETTINGS})
    try:
        yield machine
    finally:
        machine.stop()


def has_fetched(machine: Machine) -> bool:
    """Whether artifacts came by way of the network."""
    return "fetched artifact=" in machine.log.read_text()


def test_workers_join_and_leave_under_load(tmp_path: Path) -> None:
    """One finishes its groups and goes, one is killed and comes back; no job is lost."""
    with running_platform(**SETTINGS) as platform:
        deploy_source(platform.url, tmp_path, "plain", SOURCE)
        with (
            run_trial(platform.url, "SIGTERM of a worker that joined") as fault,
            joined(tmp_path / "a", platform) as machine,
        ):
            wait_used(platform.url, machine)
            fault.strike()
            assert machine.stop() == 0
            assert has_fetched(machine)
            assert fault.counters().get("requeued", 0) == 0
        with (
            run_trial(platform.url, "kill -9 of a worker that joined") as fault,
            joined(tmp_path / "b", platform) as machine,
        ):
            doomed = wait_used(platform.url, machine)
            fault.strike()
            os.kill(doomed, signal.SIGKILL)
            assert wait_used(platform.url, machine) != doomed


class Hub:
    """Store, gateway and scheduler in a namespace, without workers."""

    def __init__(self, host: Host, folder: Path) -> None:
        port, store_port = free_port(), free_port()
        self.url = f"http://{host.address}:{port}"
        self.store = f"redis://:secret@{host.address}:{store_port}"
        self.environ = {
            **os.environ, **SETTINGS, "PYTHONPATH": str(ROOT), "REDIS_URL": self.store,
            "FUSEBOX_AUTH": "off", "FUSEBOX_WORKERS": "0", "FUSEBOX_COMPILE_AFTER": "0",
        }  # fmt: skip
        words = server_command(folder, folder / "s.sock", "everysec")
        words[words.index("--port") + 1] = str(store_port)
        words += ["--bind", "0.0.0.0", "--requirepass", "secret"]
        self.log = folder / "hub.log"
        self.server = host.popen(words, os.environ, self.log)
        up = [sys.executable, "-m", "deploy.cli", "up", "--no-examples", "--host", "0.0.0.0"]
        up += ["--port", str(port), "--data", str(folder / "hub")]
        self.process = host.popen(up, self.environ, self.log)

    @property
    def of_workers(self) -> dict[str, str]:
        """What machines with one worker each are set to."""
        return self.environ | {"FUSEBOX_WORKERS": "1"}

    def is_healthy(self) -> bool:
        """Whether the gateway answers."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return requests.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        """The platform, then its store."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.server.terminate()
        self.server.wait(30)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, list[Host]]]:
    """A hub and two machines around it."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with network(2) as found:
        yield found


def test_a_machine_that_is_cut_off_loses_no_job(
    hosts: tuple[Host, list[Host]], tmp_path: Path
) -> None:
    """Its jobs are answered by the other, what it computed alone is void; then it comes back."""
    center, around = hosts
    hub = Hub(center, tmp_path)
    machines: list[Machine] = []
    try:
        eventually(hub.is_healthy, "the gateway")
        deploy_source(hub.url, tmp_path, "plain", SOURCE)
        artifacts = f"{hub.url}/v1/artifacts"
        machines = [
            start_worker(tmp_path / host.name, hub.store, artifacts, hub.of_workers, host)
            for host in around
        ]
        eventually(lambda: len(reports(hub.url)) == 2, "two workers")
        with run_trial(hub.url, "a machine cut off from the store") as fault:
            lost, stays = (wait_used(hub.url, machine) for machine in machines)
            with around[0].cut_off(center):
                fault.strike()
                eventually(lambda: set(reports(hub.url)) == {stays}, "one worker", SILENT_S)
                _answered(fault)
            back = eventually(
                lambda: set(reports(hub.url)) - {stays}, "the machine that was cut off"
            )
            assert lost in back or len(back) == 1
        assert all(map(has_fetched, machines))
    finally:
        for machine in machines:
            machine.stop()
        hub.stop()


def _answered(fault: Trial) -> None:
    """Clients are answered though one machine is cut off."""
    fault.wait_until_answering()
