"""`Client` and `AsyncClient` say the same things; what each library does on the way."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from werkzeug import Response

from contract.errors import FuseboxError, MalformedBody, QueueFull, UnknownFunction
from contract.tensors import encode_tensor
from deploy.client import NEVER, AsyncClient, Body, Client, Event, Retries, Unreachable
from tests.unit.deploy.fake_gateway import ANSWER, FUNCTION, JOB, Asked, FakeGateway, job, problem

INVOKE = "/v1/functions/echo/invoke"
X = np.arange(4, dtype=np.float32).reshape(1, 4)
QUICK = Retries(attempts=4, first_s=0.01)
PACKED = msgpack.packb(ANSWER | {"outputs": {"y": encode_tensor(X)}})


def packed(_: Asked) -> tuple[int, Response]:
    """An answer with a tensor."""
    return 200, Response(PACKED, content_type="application/msgpack")


def methods(kind: type) -> dict[str, list[str]]:
    """What a class offers, with the parameters of each."""
    return {
        name: [f"{parameter.name}={parameter.default}" for parameter in found.parameters.values()]
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
        for found in [inspect.signature(value)]
    }


def test_what_tasks_can_do_threads_can_do() -> None:
    """By the same names, with the same parameters and defaults."""
    later, plain = methods(AsyncClient), methods(Client)
    assert later == {name: plain[name] for name in later}
    assert {"invoke", "submit", "map", "events", "result", "deploy"} <= set(later)


def both(url: str, method: str, *args: Any, **options: Any) -> list[Any]:
    """What a method gives, or the error it raises, with threads and with tasks."""

    async def later() -> Any:
        async with AsyncClient(url, api_key="fb_1_2", retries=QUICK) as client:
            return await getattr(client, method)(*args, **options)

    def plainly() -> Any:
        with Client(url, api_key="fb_1_2", retries=QUICK) as client:
            return getattr(client, method)(*args, **options)

    found: list[Any] = []
    for act in (plainly, lambda: asyncio.run(later())):
        try:
            found.append(act())
        except FuseboxError as error:
            found.append((type(error), error.detail))
    return found


def test_both_send_the_same(gateway: FakeGateway) -> None:
    """But for the idempotency key, which is made for each call, and what HTTP itself needs."""
    gateway.on("POST", INVOKE, packed)
    for answer in both(gateway.url, "invoke", "echo", {"x": X}, timeout_s=7, priority=3):
        np.testing.assert_array_equal(answer["y"], X, strict=True)
    plain, later = (
        {name: value for name, value in asked.headers.items() if name != "idempotency-key"}
        for asked in gateway.asked
    )
    assert plain == {**later, "accept-encoding": plain["accept-encoding"]}
    assert plain["authorization"] == "Bearer fb_1_2"
    assert plain["content-type"] == plain["accept"] == "application/msgpack"
    assert (plain["fusebox-priority"], plain["prefer"][:6]) == ("3", "wait=7")
    keys = {asked.headers["idempotency-key"] for asked in gateway.asked}
    assert len(keys) == 2
    assert len({asked.body for asked in gateway.asked}) == 1


@pytest.mark.parametrize(
    ("method", "args", "path", "reply"),
    [
        ("functions", [], "GET /v1/functions", {"functions": [FUNCTION]}),
        ("function", ["echo"], "GET /v1/functions/echo", FUNCTION),
        ("function", ["../x?y"], "GET /v1/functions/../x?y", FUNCTION),
        ("remove", ["echo@1"], "DELETE /v1/functions/echo@1", {"removed_versions": [1]}),
        ("logs", ["echo", 3], "GET /v1/functions/echo/logs", {"lines": []}),
        ("stats", [], "GET /v1/stats", {}),
        ("workers", [], "GET /v1/workers", {"workers": []}),
        ("record", [JOB], f"GET /v1/jobs/{JOB}", job("queued")),
        ("cancel", [JOB], f"DELETE /v1/jobs/{JOB}", job("cancelled")),
        ("request", ["GET", "/v1/x"], "GET /v1/x", {"a": 1}),
        ("call", ["echo", Body("text/plain", b"x"), 0], f"POST {INVOKE}", job("queued")),
    ],
)
def test_both_ask_the_same_route(
    gateway: FakeGateway, method: str, args: list[Any], path: str, reply: dict[str, Any]
) -> None:
    """And give what it answers."""
    verb, _, route = path.partition(" ")
    gateway.on(verb, route, (200, reply))
    plain, later = both(gateway.url, method, *args)
    assert plain == later
    assert plain == (next(iter(reply.values())) if isinstance(plain, list) else reply)
    first, second = gateway.asked
    assert (first.method, first.path, first.query, first.body) == (
        second.method,
        second.path,
        second.query,
        second.body,
    )


def test_both_raise_the_same(gateway: FakeGateway) -> None:
    """The error of the problem, or that nobody answers."""
    gateway.on("GET", "/v1/functions/no", problem(404, "unknown_function", "No function no."))
    assert both(gateway.url, "function", "no") == [(UnknownFunction, "No function no.")] * 2
    nobody = both("http://127.0.0.1:1", "functions")
    assert nobody[0] == nobody[1]
    assert nobody[0][0] is Unreachable


def test_both_take_up_what_the_platform_refuses(gateway: FakeGateway) -> None:
    """Under the same key, no sooner than it asks for."""
    refusals = 2

    def reply(asked: Asked) -> tuple[int, Any]:
        tries = [one for one in gateway.asked if one.headers == asked.headers]
        refused = problem(429, "queue_full", "full", retry_after_ms=20)
        return packed(asked) if len(tries) > refusals else refused

    gateway.on("POST", INVOKE, reply)
    for answer in both(gateway.url, "invoke", "echo", X):
        np.testing.assert_array_equal(answer.output, X)
    assert len(gateway.asked) == 6
    assert len({asked.headers["idempotency-key"] for asked in gateway.asked}) == 2


def test_without_retries_there_is_neither_a_key_nor_a_second_time(gateway: FakeGateway) -> None:
    """Keys cost the store a little."""
    gateway.on("POST", INVOKE, problem(429, "queue_full", "full", retry_after_ms=1))
    with Client(gateway.url, retries=NEVER) as client, pytest.raises(QueueFull):
        client.invoke("echo", X)
    (asked,) = gateway.asked
    assert "idempotency-key" not in asked.headers


@contextmanager
def hanging_up() -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads what is sent at first and hangs up; its URL and what it read."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heads.append(connection.recv(65536))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", heads
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_what_is_not_to_be_repeated_is_not(tmp_path: Path) -> None:
    """Libraries have opinions of their own on PUT and DELETE."""
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"tar")
    with hanging_up() as (url, heads):
        assert [found[0] for found in both(url, "deploy", "echo", tar, "00" * 32)] == [
            Unreachable,
            Unreachable,
        ]
        assert len(heads) == 2
        both(url, "remove", "echo")
        assert len(heads) == 4
        both(url, "functions")
        assert len(heads) == 4 + 2 * QUICK.attempts


def test_an_upload_is_streamed_with_its_length(gateway: FakeGateway, tmp_path: Path) -> None:
    """Larger than what libraries like to send at once."""
    tar = tmp_path / "a.tar"
    tar.write_bytes(bytes(range(256)) * 16_384)
    gateway.on("PUT", "/v1/functions/echo", (201, FUNCTION))
    assert both(gateway.url, "deploy", "echo", tar, "00" * 32, {1: 0.5}) == [FUNCTION] * 2
    for asked in gateway.asked:
        assert asked.body == tar.read_bytes()
        assert asked.headers["content-length"] == str(tar.stat().st_size)
        assert asked.headers["fusebox-compute-ms"] == "1=0.500000"


def test_large_inputs_travel_whole(gateway: FakeGateway) -> None:
    """Both ways."""
    large = np.arange(1_000_000, dtype=np.float32)
    answer = msgpack.packb(ANSWER | {"outputs": {"y": encode_tensor(large)}})
    reply = Response(answer, content_type="application/msgpack")
    gateway.on("POST", INVOKE, lambda _: (200, reply))
    for found in both(gateway.url, "invoke", "echo", {"x": large}):
        np.testing.assert_array_equal(found.output, large, strict=True)
    assert all(len(asked.body) > large.nbytes for asked in gateway.asked)


def stream(gateway: FakeGateway) -> list[str]:
    """Answer questions for events, two to a connection; the ids that were gone on from."""
    kinds = ["queued", "started", "progress", "done"]
    asked_from: list[str] = []

    def reply(asked: Asked) -> tuple[int, Response]:
        last = asked.headers.get("last-event-id", "")
        asked_from.append(last)
        first = int(last or 0)
        told = "".join(
            f"id: {number + 1}\nevent: {kinds[number]}\ndata: {json.dumps({'n': number})}\n\n"
            for number in range(first, min(first + 2, len(kinds)))
        )
        cut = ": still there\n\n" + told + "id: 9\nevent: half"
        return 200, Response([cut[:30], cut[30:]], content_type="text/event-stream")

    gateway.on("GET", f"/v1/jobs/{JOB}/events", reply)
    return asked_from


EVENTS = [
    Event(str(number + 1), kind, {"n": number})
    for number, kind in enumerate(["queued", "started", "progress", "done"])
]


def test_events_come_over_as_many_connections_as_it_takes(gateway: FakeGateway) -> None:
    """Each once, until the job is done."""
    asked_from = stream(gateway)
    with Client(gateway.url, retries=QUICK) as client:
        assert list(client.events(JOB)) == EVENTS
        assert list(client.job(JOB).events("3")) == EVENTS[3:]
    assert asked_from == ["", "2", "3"]

    async def later() -> list[Event]:
        async with AsyncClient(gateway.url, retries=QUICK) as client:
            return [event async for event in client.job(JOB).events()]

    assert asyncio.run(later()) == EVENTS
    assert asked_from == ["", "2", "3", "", "2"]


def test_a_gateway_without_events_says_so(gateway: FakeGateway) -> None:
    """Or without this job."""
    with Client(gateway.url, retries=QUICK) as client, pytest.raises(FuseboxError, match="nothing"):
        next(client.events(JOB))


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://x:y", "http://a b", "http://x?y"]
)
def test_what_is_no_url_is_refused_by_name(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(MalformedBody, match="FUSEBOX_URL"):
        Client(url)
    with pytest.raises(MalformedBody, match="FUSEBOX_URL"):
        AsyncClient(url)


def test_the_environment_says_what_the_program_does_not(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the gateway is, and who calls."""
    monkeypatch.setenv("FUSEBOX_URL", f"{gateway.url}/")
    monkeypatch.setenv("FUSEBOX_API_KEY", "fb_e_n")
    gateway.on("GET", "/v1/stats", (200, {}))
    with Client() as client:
        client.stats()
    assert gateway.asked[0].headers["authorization"] == "Bearer fb_e_n"


def test_a_gateway_may_stand_under_a_path(gateway: FakeGateway) -> None:
    """Behind a proxy."""
    gateway.on("GET", "/fusebox/v1/stats", (200, {"a": 1}))
    assert both(f"{gateway.url}/fusebox/", "stats") == [{"a": 1}] * 2
