"""The gateway process: gunicorn, gevent and our connections, over a real store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from contract.job import Status
from contract.store import Store
from contract.store.queue import Cursor
from tests.integration.claiming import claim_group
from tests.integration.gateway.builders import FakeWorker, publish

ROOT = Path(__file__).resolve().parents[3]
INVOKE = "/v1/functions/echo/invoke"
BODY = orjson.dumps({"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}})
JSON = {"Content-Type": "application/json"}
START_S = 20.0


class Gateway(NamedTuple):
    """A running gateway process."""

    process: subprocess.Popen[bytes]
    port: int

    @contextmanager
    def connect(self) -> Iterator[HTTPConnection]:
        """A connection of its own."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as client:
            yield client

    def speak(self, text: bytes) -> bytes:
        """Everything that comes back for these bytes, until the connection closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.fixture
def gateway(redis_url: str, store: Store, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway process on a free port."""
    publish(store)
    with running_gateway(redis_url, tmp_path) as running:
        yield running


@contextmanager
def running_gateway(redis_url: str, data: Path, **settings: str) -> Iterator[Gateway]:
    """A gateway process on a free port, with these settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = os.environ | {
        "REDIS_URL": redis_url,
        "FUSEBOX_PORT": str(port),
        "FUSEBOX_DATA": str(data),
        "FUSEBOX_DRAIN_S": "6",
        "FUSEBOX_MAX_BODY": "100000",
        **settings,
    }
    command = [sys.executable, "-m", "gateway.server"]
    with subprocess.Popen(command, cwd=ROOT, env=environ) as process:
        running = Gateway(process, port)
        try:
            _wait_until_it_answers(running)
            yield running
        finally:
            process.kill()


def _wait_until_it_answers(gateway: Gateway) -> None:
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        assert gateway.process.poll() is None, "the gateway did not start"
        try:
            with gateway.connect() as client:
                client.request("GET", "/healthz")
        except ConnectionRefusedError:
            time.sleep(0.02)  # a process has no event to wait for before it listens
        else:
            return
    pytest.fail("the gateway did not answer")


def test_calls_share_a_connection(gateway: Gateway, worker: FakeWorker) -> None:
    """Keep-alive, also after an error."""
    with gateway.connect() as client:
        for path, status in ((INVOKE, 200), ("/v1/functions/no/invoke", 404), (INVOKE, 200)):
            client.request("POST", path, BODY, JSON)
            answer = client.getresponse()
            assert status == answer.status
            assert orjson.loads(answer.read())


def test_a_chunked_body_is_taken(gateway: Gateway, worker: FakeWorker) -> None:
    """A length is not required."""
    with gateway.connect() as client:
        client.request("POST", INVOKE, iter([BODY[:10], BODY[10:]]), JSON, encode_chunked=True)
        assert client.getresponse().status == 200


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_body_that_is_too_large_is_refused(gateway: Gateway, is_chunked: bool) -> None:
    """413 whether its length is announced or not."""
    body = b" " * 100_001
    sent = iter([body]) if is_chunked else body
    with gateway.connect() as client:
        client.request("POST", INVOKE, sent, JSON, encode_chunked=is_chunked)
        answer = client.getresponse()
        assert (answer.status, orjson.loads(answer.read())["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_request_that_could_be_two_is_refused(gateway: Gateway, text: bytes) -> None:
    """400, and the connection closes."""
    assert gateway.speak(text).startswith(b"HTTP/1.1 400 ")


def test_head_has_the_headers_of_get_alone(gateway: Gateway) -> None:
    """And the connection goes on."""
    answer = gateway.speak(
        b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b'{"status":"ok"}') == 1


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(
    gateway: Gateway, worker: FakeWorker
) -> None:
    """curl does so for large bodies."""
    head = f"POST {INVOKE} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n"
    answer = gateway.speak(head.encode() + b"Expect: 100-continue\r\n\r\n" + BODY)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def wait_until_queued(store: Store, count: int) -> None:
    """Until so many jobs wait."""
    while store.telemetry.conservation().queued != count:
        time.sleep(0.01)  # another process: there is nothing to wait on but the store


def wait_for_status(store: Store, job: str, status: Status) -> None:
    """Until the job has this status."""
    give_up_at_s = time.monotonic() + START_S
    while store.jobs.get(job).status != status:
        assert time.monotonic() < give_up_at_s, store.jobs.get(job).status
        time.sleep(0.01)  # another process: there is nothing to wait on but the store


def queued_jobs(store: Store) -> list[str]:
    """Their ids, as the scheduler reads them."""
    with closing(store.server.blocking()) as link:
        return [spec.id for spec in store.queue.wait(link, Cursor(signals="0-0"), 0.001).jobs]


HEAD = f"POST {INVOKE} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()


def test_a_client_that_hangs_up_cancels_its_queued_job(gateway: Gateway, store: Store) -> None:
    """Nobody is left to read the answer."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(HEAD + BODY)
        wait_until_queued(store, 1)
        [job] = queued_jobs(store)
    wait_for_status(store, job, Status.CANCELLED)
    assert store.telemetry.counters() == {"abandoned": 1}


def test_a_client_that_sends_its_next_request_has_not_hung_up(
    gateway: Gateway, store: Store, redis_url: str
) -> None:
    """Both are answered, in order."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(HEAD + BODY)
        wait_until_queued(store, 1)
        [job] = queued_jobs(store)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        with gateway.connect() as other:
            other.request("GET", f"/v1/jobs/{job}?wait=1")
            assert orjson.loads(other.getresponse().read())["status"] == "queued"
        worker = FakeWorker(redis_url)
        worker.start()
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        worker.stop()
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b'{"status":"ok"}')


def test_a_client_that_prefers_not_to_wait_may_hang_up(gateway: Gateway, store: Store) -> None:
    """Its job goes on; so does one that runs, whoever left."""
    store.workers.lead("scheduler", "token", 600)
    with gateway.connect() as left, gateway.connect() as leaving:
        left.request("POST", INVOKE, BODY, JSON)
        wait_until_queued(store, 1)
        [running] = queued_jobs(store)
        assert claim_group(store.queue, "token", "w", "g", time.time() + 600, [running])
        leaving.request("POST", INVOKE, BODY, JSON | {"Prefer": "wait=60"})
        wait_until_queued(store, 1)
        [queued] = queued_jobs(store)
    with gateway.connect() as other:
        other.request("GET", f"/v1/jobs/{queued}?wait=1.5")
        assert orjson.loads(other.getresponse().read())["status"] == "queued"
    assert store.jobs.get(running).status == Status.RUNNING


def test_sigterm_finishes_what_is_there_and_closes_what_is_idle(
    gateway: Gateway, store: Store, redis_url: str
) -> None:
    """A call under way is answered, a poll let go, an idle connection does not hold up the end."""

    def post(**headers: str) -> tuple[int, str | None]:
        with gateway.connect() as client:
            client.request("POST", INVOKE, BODY, JSON | headers)
            answer = client.getresponse()
            answer.read()
            return answer.status, answer.headers["Connection"]

    with gateway.connect() as idle, ThreadPoolExecutor(2) as pool:
        idle.request("GET", "/healthz")
        idle.getresponse().read()
        call, poll = pool.submit(post), pool.submit(post, Prefer="wait=60")
        while store.telemetry.conservation().queued < 2:
            assert not call.done()
        began_s = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert poll.result(5)[0] == 202
        assert not call.done()
        worker = FakeWorker(redis_url)
        worker.start()
        assert call.result(5)[0] == 200
        worker.stop()
        assert gateway.process.wait(10) == 0
        assert time.monotonic() - began_s < 5
        assert idle.sock.recv(1) == b""


def test_a_bad_setting_stops_the_process_by_name(tmp_path: Path) -> None:
    """The message names the variable."""
    environ = os.environ | {"FUSEBOX_PORT": "many", "FUSEBOX_DATA": str(tmp_path)}
    command = [sys.executable, "-m", "gateway.server"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"FUSEBOX_PORT" in done.stderr
