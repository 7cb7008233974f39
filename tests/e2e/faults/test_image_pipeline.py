"""The example `image-pipeline` while every process of the platform is killed in turn."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from contract import keys
from tests.e2e.faults.conftest import Cluster
from tests.e2e.faults.waiting import eventually

EXAMPLE = Path(__file__).parents[3] / "examples" / "image-pipeline"
PACE_S = 0.25
PATIENCE_S = 120.0

# What is killed, one process of it after another. A handler host is left out: that it dies is an
# outcome of its job (`handler_failed`).
ROLES: dict[str, Callable[[Cluster], list[int]]] = {
    "worker": lambda cluster: cluster.workers,
    "scheduler": lambda cluster: cluster.schedulers,
    "events": lambda cluster: cluster.events,
    "gateway": lambda cluster: cluster.gateways,
    "parent of the gateways": lambda cluster: _only(cluster.gateway),
    "store": lambda cluster: _only(cluster.server),
}


class Counts(NamedTuple):
    """Jobs of the platform, ever."""

    accepted: int
    succeeded: int
    settled: int


class Dropper:
    """Drops an image now and then, from a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.names: list[str] = []
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def _run(self) -> None:
        from pipeline import drop

        try:
            while not self._stop.wait(PACE_S):
                self.names.append(drop(self._folder, len(self.names)))
        except BaseException as error:
            self.error = error
            raise

    def __enter__(self) -> Dropper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self.error is None


@pytest.fixture
def example() -> Iterator[None]:
    """The example's modules, as its own scripts import them."""
    before = set(sys.modules)
    sys.path.insert(0, str(EXAMPLE))
    yield
    sys.path.remove(str(EXAMPLE))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(EXAMPLE)):
            del sys.modules[name]


@pytest.fixture
def secret(cluster: Cluster) -> str:
    """What the platform signs with."""
    answer = requests.get(f"{cluster.platform.url}/v1/webhooks/secret", timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["secrets"][0])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("example")
def test_every_image_is_answered_and_told_of_whatever_is_killed(
    cluster: Cluster, watched: Path, secret: str
) -> None:
    """By both functions, one job each, settled once; on the stream and signed at the webhook."""
    from pipeline import FUNCTIONS, entries, newest_entry, opened
    from receiver import Receiver

    url = f"unix://{cluster.platform.data / 'store.sock'}"
    with (
        closing(opened(url)) as redis,
        Receiver(secret) as receiver,
        pipeline(cluster, watched, receiver.url),
    ):
        before = eventually(lambda: idle_counts(cluster), "jobs of before to settle")
        first = newest_entry(redis)
        with Dropper(watched) as dropper:
            eventually(receiver.seen, "a result before anything is killed")
            for role in ROLES:
                kill_each(cluster, role, dropper)
        wanted = {(name, function) for name in dropper.names for function in FUNCTIONS}
        streamed = entries(redis, first, len(wanted), PATIENCE_S)
        receiver.wait_for(len(wanted), PATIENCE_S)
        told = receiver.seen()
        after = eventually(lambda: idle_counts(cluster), "every job to settle")
        states = [each["state"] for each in listed(cluster)]

    assert {(event.file, event.function) for event in streamed} == wanted
    job_of = {(event.file, event.function): event.id for event in streamed}
    # exactly once on the stream, so that one job stands for each image and function
    assert max(Counter(event.id for event in streamed).values()) == 1
    assert (len(streamed), len(job_of)) == (len(wanted), len(wanted))
    # at least once at the webhook, each time under that job's id
    assert {(event.file, event.function) for event in told} == wanted
    assert {(event.file, event.function, event.id) for event in told} == {
        (*key, job) for key, job in job_of.items()
    }
    assert all(event.id == event.record["id"] for event in told)
    assert receiver.refused == 0
    # no event became a second job, and no job settled twice
    made = len(wanted)
    assert after == Counts(before.accepted + made, before.succeeded + made, before.settled + made)
    assert states == ["active", "active"]
    records = {event.id: event.record["data"] for event in streamed}
    assert [e.id for e in told if e.record["data"]["result"] != records[e.id]["result"]] == []
    # the calls of an image wait at one moment, and ran as one where nothing was being killed
    assert max(record["group"]["functions"] for record in records.values()) == len(FUNCTIONS)


def kill_each(cluster: Cluster, role: str, dropper: Dropper) -> None:
    """kill -9 of every process of a role, each when the one before has been replaced."""
    find = ROLES[role]
    doomed = find(cluster)
    assert doomed, f"there is no {role}"
    for pid in doomed:
        dropped = len(dropper.names)
        eventually(lambda n=dropped: len(dropper.names) > n, "an image on its way")
        os.kill(pid, signal.SIGKILL)
        eventually(
            lambda p=pid: p not in (now := find(cluster)) and len(now) == len(doomed),
            f"another {role} in the place of {pid}",
        )
        cluster.wait_whole()
        eventually(lambda: leads(cluster), "an events process that leads")


def leads(cluster: Cluster) -> bool:
    """Whether an events process that lives holds the lead."""
    token: Any = cluster.store.server.redis.get(keys.leader("events"))
    return token is not None and int(token.partition(b"-")[0]) in cluster.events


@contextmanager
def pipeline(cluster: Cluster, folder: Path, webhook: str) -> Iterator[None]:
    """The functions and triggers, by the commands of the example."""
    from pipeline import commands, undo_commands

    for words in commands(folder, webhook):
        fusebox(cluster, *words)
    try:
        yield
    finally:
        for words in undo_commands():
            fusebox(cluster, *words)


def fusebox(cluster: Cluster, *words: str) -> str:
    """What a command prints; it must succeed."""
    done = cluster.platform.fusebox(*words)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{cluster.platform.tail()}"
    return done.stdout


def listed(cluster: Cluster) -> list[dict[str, Any]]:
    """The triggers."""
    answer = requests.get(f"{cluster.platform.url}/v1/triggers", timeout=30)
    found: list[dict[str, Any]] = answer.json()["triggers"]
    return found


def counts(cluster: Cluster) -> Counts:
    """Where all jobs are, by the store."""
    now = cluster.store.telemetry.conservation()
    assert now.drift == 0, now
    return Counts(now.accepted, now.settled["succeeded"], sum(now.settled.values()))


def idle_counts(cluster: Cluster) -> Counts | None:
    """The same once nothing waits or runs."""
    found = counts(cluster)
    return found if found.accepted == found.settled else None


def _only(pid: int | None) -> list[int]:
    return [] if pid is None else [pid]
