"""Events of jobs as a real client of Server-Sent Events reads them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from flask.testing import FlaskClient
from httpx_sse import ServerSentEvent, connect_sse

from contract.events import DONE
from contract.job import Claim, JobId, Outcome, Status
from contract.store import Store
from contract.store.queue import Settlement
from tests.integration.claiming import claim_group
from tests.integration.gateway.builders import publish
from tests.integration.gateway.test_server import Gateway, running_gateway

BODY = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}


@pytest.fixture
def served(redis_url: str, store: Store, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway process with room for two streams, and nobody who works."""
    publish(store)
    assert store.workers.lead("scheduler", "token", 600)
    with running_gateway(
        redis_url, tmp_path, FUSEBOX_MAX_STREAMS="2", FUSEBOX_GATEWAYS="1"
    ) as running:
        yield running


class Reader(threading.Thread):
    """Follows a job in a thread of its own, and says when it has seen an event."""

    def __init__(self, gateway: Gateway, job: str, last: str = "") -> None:
        super().__init__(daemon=True)
        self._url = f"http://127.0.0.1:{gateway.port}/v1/jobs/{job}/events"
        self._headers = {"Last-Event-ID": last} if last else {}
        self.events: list[ServerSentEvent] = []
        self._more = threading.Condition()
        self.start()

    def run(self) -> None:
        """Until the stream ends."""
        with (
            httpx.Client(timeout=30) as client,
            connect_sse(client, "GET", self._url, headers=self._headers) as source,
        ):
            for event in source.iter_sse():
                with self._more:
                    self.events.append(event)
                    self._more.notify_all()

    def wait_for(self, name: str) -> None:
        """Until an event of this name was seen."""
        with self._more:
            seen = self._more.wait_for(lambda: any(e.event == name for e in self.events), 10)
        assert seen, [event.event for event in self.events]

    def names(self) -> list[tuple[str, str]]:
        """Ids and names, once the stream has ended."""
        self.join(10)
        assert not self.is_alive()
        return [(event.id, event.event) for event in self.events]


def submit(gateway: Gateway) -> JobId:
    """A job that waits."""
    answer = httpx.post(
        f"http://127.0.0.1:{gateway.port}/v1/functions/echo/invoke",
        json=BODY,
        headers={"Prefer": "respond-async"},
        timeout=30,
    )
    assert answer.status_code == 202
    return JobId(answer.json()["job"])


def claim(store: Store, job: JobId, group: str = "g") -> Claim:
    """A worker gets it."""
    [found] = claim_group(store.queue, "token", "w1", group, time.time() + 60, [job]) or []
    return found


def settle(store: Store, found: Claim) -> None:
    """It ends with a result."""
    outcome = Outcome(Status.SUCCEEDED, result={"pages": 2})
    assert store.queue.settle([Settlement(found, outcome, 0, 0, 1)], {}, "g", None) == [True]


def test_a_job_is_followed_to_its_end(served: Gateway, store: Store) -> None:
    """As it happens, over a lost attempt, in order; and from the start for who comes late."""
    job = submit(served)
    reader = Reader(served, job)
    reader.wait_for("queued")
    first = claim(store, job)
    reader.wait_for("started")
    store.events.report(first, 1, b'{"done":1}')
    reader.wait_for("progress")
    store.queue.hand_back("w1")
    second = claim(store, job, "g2")
    store.events.report(second, 1, b'{"done":2}')
    settle(store, second)
    names = reader.names()
    assert names[0] == ("0-0", "queued")
    assert names[-3:] == [("2-0", "started"), ("2-1", "progress"), (f"2-{DONE}", "done")]
    assert [(id_, name) for id_, name in names if id_.startswith("1-")][:2] == [
        ("1-0", "started"),
        ("1-1", "progress"),
    ]
    done = orjson.loads(reader.events[-1].data)
    assert (done["job"], done["status"], done["result"]) == (job, "succeeded", {"pages": 2})
    assert [orjson.loads(e.data) for e in reader.events if e.event == "progress"] == [
        {"number": 1, "data": {"done": 1}},
        {"number": 1, "data": {"done": 2}},
    ]
    late = Reader(served, job)
    assert [name for _, name in late.names()] == [
        "queued",
        "progress",
        "started",
        "progress",
        "done",
    ]


def test_a_client_that_comes_back_gets_what_it_missed(served: Gateway, store: Store) -> None:
    """And 204 when there is nothing to come."""
    job = submit(served)
    found = claim(store, job)
    for number in (1, 2, 3):
        store.events.report(found, number, b"%d" % number)
    settle(store, found)
    assert Reader(served, job, "1-2").names() == [("1-3", "progress"), (f"1-{DONE}", "done")]
    url = f"http://127.0.0.1:{served.port}/v1/jobs/{job}/events"
    seen = httpx.get(url, headers={"Last-Event-ID": f"1-{DONE}"}, timeout=30)
    assert (seen.status_code, seen.content) == (204, b"")


def test_streams_are_bounded_and_end_when_the_gateway_drains(served: Gateway, store: Store) -> None:
    """A place is free again when its client has gone; a drain waits for nobody."""
    job = submit(served)
    readers = [Reader(served, job) for _ in range(2)]
    for reader in readers:
        reader.wait_for("queued")
    url = f"http://127.0.0.1:{served.port}/v1/jobs/{job}/events"
    refused = httpx.get(url, timeout=30)
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    served.process.send_signal(signal.SIGTERM)
    assert [reader.names() for reader in readers] == [[("0-0", "queued")]] * 2
    assert served.process.wait(10) == 0


def test_what_is_wrong_is_told_before_the_stream(client: FlaskClient, store: Store) -> None:
    """As problems, and without a place being taken."""
    publish(store)
    accepted = client.post(
        "/v1/functions/echo/invoke", json=BODY, headers={"Prefer": "respond-async"}
    )
    path = f"/v1/jobs/{accepted.json['job']}/events"
    for headers, status in (
        ({"Last-Event-ID": "x"}, 422),
        ({"Accept": "application/json"}, 406),
    ):
        assert client.get(path, headers=headers).status_code == status
    assert client.get(f"/v1/jobs/{'0' * 24}/events").json["code"] == "unknown_job"
    assert client.get("/v1/jobs/nothing/events").json["code"] == "unknown_job"
    head = client.head(path)
    assert (head.status_code, head.mimetype) == (200, "text/event-stream")
    head.close()
    assert client.application.extensions["gateway"].following._count == 0
