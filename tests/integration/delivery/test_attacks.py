"""Receivers and names that mean harm: refused, logged, and nobody else is held up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from contract.delivery import Delivery, State
from contract.origin import Origin
from contract.store import Store
from tests.integration.delivery.builders import (
    LOCAL,
    Receiver,
    Resolve,
    end,
    log_of,
)
from tests.integration.store.builders import deploy

Deliver = Callable[..., None]


def resolving(*answers: list[str]) -> tuple[Resolve, list[str]]:
    """A resolver that gives one answer after another, the last for ever; the names asked for."""
    asked: list[str] = []
    left = list(answers)

    async def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return left[0] if len(left) == 1 else left.pop(0)

    return resolve, asked


def given_up(store: Store, url: str) -> Delivery:
    """The log of a webhook that was refused without another attempt."""
    job = end(store, deploy(store), Origin(on_success=(url,)))
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.attempts) == (State.GIVEN_UP, 1)
    [letter] = store.dead_letters.last(10)
    assert letter.id == f"{job}-0"
    return delivery


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]",
        "[fe80::1]", "[fd00::1]", "[ff02::1]", "[2002:7f00:1::]", "[::127.0.0.1]",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(
    store: Store, deliver: Deliver, host: str
) -> None:
    """As literals, over TLS as without it."""
    resolve, asked = resolving(["127.0.0.1"])
    deliver(resolve)
    for scheme in ("https", "http"):
        job = end(store, deploy(store), Origin(on_success=(f"{scheme}://{host}/",)))
        [delivery] = log_of(store, job)
        assert (delivery.state, delivery.attempts) == (State.GIVEN_UP, 1)
        assert delivery.error.startswith("refused: ")
    assert asked == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["169.254.169.254"],
        ["::ffff:169.254.169.254"],
        ["64:ff9b::a9fe:a9fe"],
        ["fe80::1%lo"],
        ["8.8.8.8", "10.0.0.1"],
        ["2606:4700:4700::1111", "::1"],
        ["not an address"],
    ],
)
def test_names_of_such_addresses_are_refused(
    store: Store, deliver: Deliver, addresses: list[str]
) -> None:
    """One of them condemns the name."""
    resolve, _ = resolving(addresses)
    deliver(resolve)
    delivery = given_up(store, "https://rebound.example/")
    assert delivery.error.startswith("refused: rebound.example is at ")


def test_a_name_is_resolved_once_and_its_address_is_dialled(
    store: Store, receiver: Receiver, deliver: Deliver
) -> None:
    """A name that means another address by the time of the connection gains nothing."""
    resolve, asked = resolving(["127.0.0.1"], ["10.0.0.1"])
    deliver(resolve)
    url = f"http://{LOCAL}:{receiver.port}/hook?a=b%2Cc"
    job = end(store, deploy(store), Origin(on_success=(url,)))
    assert log_of(store, job)[0].state is State.DELIVERED
    [request] = receiver.requests
    assert (request.path, request.headers["host"]) == (
        "/hook?a=b%2Cc",
        f"{LOCAL}:{receiver.port}",
    )
    assert asked == [LOCAL]


def test_rebinding_between_attempts_is_seen(
    store: Store, receiver: Receiver, deliver: Deliver
) -> None:
    """Each attempt is checked by the addresses of its own moment."""
    resolve, _ = resolving(["127.0.0.1"], ["10.0.0.1"])
    receiver.answers = [(503, {})]
    deliver(resolve)
    url = f"http://rebound.example:{receiver.port}/"
    job = end(store, deploy(store), Origin(on_success=(url,)))
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.attempts) == (State.GIVEN_UP, 2)
    assert delivery.error == "refused: rebound.example is at 10.0.0.1, which is no public address"


def test_without_tls_only_named_hosts_are_told(store: Store, deliver: Deliver) -> None:
    """A public address is no leave to send in clear."""
    resolve, _ = resolving(["93.184.216.34"])
    deliver(resolve)
    assert "without TLS" in given_up(store, "http://example.com/").error


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(
    store: Store, receiver: Receiver, deliver: Deliver, status: int
) -> None:
    """Wherever they lead."""
    receiver.answers = [(status, {"Location": "/elsewhere"}), (200, {})]
    deliver()
    delivery = given_up(store, receiver.url)
    assert delivery.error == f"answered {status}; redirects are not followed"
    assert len(receiver.requests) == 1


def _answer_huge(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(2**40))
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(bytes(65536))


def _answer_slowly(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.rfile.read(1)


@pytest.mark.parametrize("act", [_answer_huge, _answer_slowly])
def test_bodies_are_not_waited_for(
    store: Store, receiver: Receiver, deliver: Deliver, act: Callable[..., None]
) -> None:
    """The status has come; the rest is cut."""
    receiver.act = act
    job = end(store, deploy(store), Origin(on_success=(receiver.url,)))
    deliver()
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.status) == (State.DELIVERED, 200)
