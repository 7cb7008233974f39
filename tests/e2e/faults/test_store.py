"""The store stops, dies, or has no memory left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.e2e.faults.conftest import Cluster, RunTrial
from tests.e2e.faults.waiting import eventually


@pytest.mark.parametrize(
    ("number", "fault_name"),
    [
        (signal.SIGTERM, "restart of the store"),
        (signal.SIGKILL, "kill -9 of the store"),
    ],
)
def test_the_store_comes_back_with_everything_it_had_confirmed(
    cluster: Cluster, trial: RunTrial, number: signal.Signals, fault_name: str
) -> None:
    """Its append-only file was handed to the kernel before each answer."""
    with trial(fault_name) as fault:
        gated = fault.load.number()
        cluster.gate.hold("postprocess", gated)
        # one job at least is computed and not settled while the store is away
        job = fault.load.submit("gated", gated, {"number": gated})
        cluster.gate.wait("postprocess", gated)
        doomed = cluster.server
        assert doomed is not None
        fault.strike()
        os.kill(doomed, number)
        eventually(lambda: cluster.server not in (None, doomed), "another server")
        cluster.gate.release("postprocess", gated)
        assert fault.job_when_it_answers(job)["status"] == "succeeded"


def test_a_store_without_memory_refuses_jobs_and_loses_none(
    cluster: Cluster, trial: RunTrial
) -> None:
    """503 with Retry-After to what is new; what it has accepted runs to its end meanwhile."""
    with trial("the store out of memory") as fault:
        gated = fault.load.number()
        cluster.gate.hold("postprocess", gated)
        job = fault.load.submit("gated", gated, {"number": gated})
        cluster.gate.wait("postprocess", gated)
        with no_memory_left(cluster):
            before = fault.load.refused
            eventually(lambda: fault.load.refused >= before + 8, "refusals by a full store")
            answer = call_plain(cluster)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert answer.headers["Retry-After"] == "1"
            cluster.gate.release("postprocess", gated)
            assert fault.job(job, wait_s=30)["attempts"] == 1
            fault.strike()


def call_plain(cluster: Cluster) -> requests.Response:
    """A call of `plain`."""
    url = f"{cluster.platform.url}/v1/functions/plain/invoke"
    return requests.post(url, json={"inputs": {"x": [[1.0]]}}, timeout=60)


@contextmanager
def no_memory_left(cluster: Cluster) -> Iterator[None]:
    """The server may use one byte, and so refuses every write that may need more."""
    redis = cluster.store.server.redis
    redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        redis.config_set("maxmemory", 0)
