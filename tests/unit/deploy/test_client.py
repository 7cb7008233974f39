"""The HTTP client: answers become records, problems become errors of the tree."""

from __future__ import annotations

import base64
import hashlib
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from contract.errors import (
    DeadlineExceeded,
    FuseboxError,
    MalformedBody,
    QueueFull,
    UnknownFunction,
)
from deploy.client import NEVER, Body, Client, Retries
from deploy.errors import Unreachable, WaitTimeout
from tests.unit.deploy.fake_gateway import ANSWER, FUNCTION, JOB, FakeGateway, job, problem

BODY = Body("application/json", b"{}")
QUICK = Retries(first_s=0.01)
once = partial(Client, retries=NEVER)


def test_a_problem_becomes_the_error_of_its_code(gateway: FakeGateway) -> None:
    """With its detail and its own members, without those that only HTTP needs."""
    reply = problem(429, "queue_full", "too many", retry_after_ms=1000, title="t")
    gateway.on("POST", "/v1/functions/echo/invoke", reply)
    with once(gateway.url) as client, pytest.raises(QueueFull) as caught:
        client.call("echo", BODY)
    assert (caught.value.detail, caught.value.extensions) == ("too many", {"retry_after_ms": 1000})


def test_a_code_that_is_not_known_is_still_an_error_with_its_detail(gateway: FakeGateway) -> None:
    """A newer gateway may have codes of its own."""
    gateway.on("GET", "/v1/stats", problem(418, "teapot", "short and stout"))
    with Client(gateway.url) as client, pytest.raises(FuseboxError, match="short and stout"):
        client.stats()


def test_nobody_at_the_url_is_an_error_that_names_it() -> None:
    """And says how to start a platform."""
    with (
        once("http://127.0.0.1:1") as client,
        pytest.raises(Unreachable, match=r"http://127.0.0.1:1; start one with `fusebox up`"),
    ):
        client.functions()


def test_an_answer_that_is_no_record_is_not_taken_for_one(gateway: FakeGateway) -> None:
    """Some other server may listen at the URL."""
    gateway.on("GET", "/v1/functions", (200, b"<html>welcome</html>"))
    with Client(gateway.url) as client, pytest.raises(FuseboxError, match="not as a Fusebox does"):
        client.functions()


def test_a_proxy_without_a_gateway_behind_it_is_unreachable(gateway: FakeGateway) -> None:
    """502 is the proxy's word for it."""
    gateway.on("GET", "/v1/functions", (502, b"bad gateway"))
    with once(gateway.url) as client, pytest.raises(Unreachable, match="502"):
        client.functions()


def test_an_artifact_is_uploaded_with_its_digest(gateway: FakeGateway, tmp_path: Path) -> None:
    """RFC 9530, of the bytes that are sent."""
    gateway.on("PUT", "/v1/functions/echo", (201, FUNCTION))
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"tar" * 1000)
    digest = hashlib.sha256(tar.read_bytes())
    with Client(gateway.url) as client:
        assert client.deploy("echo", tar, digest.hexdigest()) == FUNCTION
    (asked,) = gateway.asked
    field = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert (field, "application/x-tar", tar.read_bytes()) == (
        asked.headers["content-digest"],
        asked.headers["content-type"],
        asked.body,
    )


def test_connections_are_kept_and_preferences_are_sent(gateway: FakeGateway) -> None:
    """`wait` is sent only where the caller sets it; 0 is not to wait."""
    gateway.on("POST", "/v1/functions/echo/invoke", (200, ANSWER))
    with Client(gateway.url) as client:
        client.call("echo", BODY)
        client.call("echo", BODY, 2.5)
        client.call("echo", BODY, 0)
    prefer = [asked.headers.get("prefer") for asked in gateway.asked]
    assert prefer == [None, "wait=2.5", "respond-async"]


def test_waiting_asks_again_until_the_job_has_settled(gateway: FakeGateway) -> None:
    """Each question is a long poll."""
    states = iter(["queued", "running", "succeeded"])
    gateway.on("GET", f"/v1/jobs/{JOB}", lambda _: (200, job(next(states))))
    with Client(gateway.url) as client:
        assert client.wait(JOB)["status"] == "succeeded"
    assert [asked.query["wait"] for asked in gateway.asked] == ["30", "30", "30"]


def test_waiting_ends_when_its_time_is_over(gateway: FakeGateway) -> None:
    """The job goes on: it is only the wait that failed."""
    gateway.on("GET", f"/v1/jobs/{JOB}", (200, job("running")))
    with Client(gateway.url) as client, pytest.raises(WaitTimeout, match="still running") as caught:
        client.wait(JOB, 0.0)
    assert isinstance(caught.value, DeadlineExceeded)


def test_a_name_cannot_reach_another_route(gateway: FakeGateway) -> None:
    """Names are quoted into the path."""
    with Client(gateway.url) as client, pytest.raises(FuseboxError):
        client.function("../../healthz")
    assert gateway.asked[0].path.startswith("/v1/functions/")


def test_unknown_functions_are_their_own_error(gateway: FakeGateway) -> None:
    """Scripts tell them from other failures."""
    gateway.on("GET", "/v1/functions/no", problem(404, "unknown_function", "No function no."))
    with Client(gateway.url) as client, pytest.raises(UnknownFunction, match="No function no"):
        client.function("no")


@contextmanager
def flaky(failures: int) -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads so many requests and hangs up, then answers; its URL, what it read."""
    heads: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b"".join(iter(self.rfile.readline, b"\r\n"))
            heads.append(head)
            self.rfile.read(len(BODY.data))
            if len(heads) > failures:
                data = json.dumps(ANSWER).encode()
                fields = b"Content-Type: application/json\r\nConnection: close\r\n"
                size = f"Content-Length: {len(data)}\r\n\r\n".encode()
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + fields + size + data)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", heads
        finally:
            server.shutdown()
            thread.join()


def test_a_call_with_an_idempotency_key_is_tried_again() -> None:
    """The same key each time, so that the platform runs it once."""
    with flaky(2) as (url, heads), Client(url, retries=QUICK) as client:
        assert client.call("echo", BODY, idempotency_key="k") == ANSWER
    assert [
        line for head in heads for line in head.decode().splitlines() if "Idempotency" in line
    ] == ['Idempotency-Key: "k"'] * 3


def test_a_call_without_one_is_not() -> None:
    """It may have been accepted."""
    with (
        flaky(1) as (url, heads),
        Client(url, retries=QUICK) as client,
        pytest.raises(Unreachable),
    ):
        client.call("echo", BODY)
    assert len(heads) == 1


def test_a_client_shows_its_key_and_never_prints_it(gateway: FakeGateway) -> None:
    """What cannot be a header is refused without being repeated."""
    gateway.on("GET", "/v1/stats", (200, {}))
    with Client(gateway.url, api_key="fb_1_2") as client:
        client.stats()
    assert gateway.asked[0].headers["authorization"] == "Bearer fb_1_2"
    with pytest.raises(MalformedBody) as caught:
        Client(gateway.url, api_key="s3cr3t\n")
    assert "s3cr3t" not in caught.value.detail
