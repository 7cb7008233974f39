"""Services of their own: what outlives a process, and receivers that take their time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from contract.delivery import State
from contract.origin import Origin
from contract.store import Store
from tests.integration.delivery.builders import Receiver, Running, end, log_of, until
from tests.integration.store.builders import deploy

Run = Callable[..., Running]


def test_what_was_under_way_goes_on_with_the_next_process(
    store: Store, receiver: Receiver, run: Run
) -> None:
    """A retry is in the store: whoever comes next makes it."""
    receiver.answers = [(503, {"Retry-After": "1"}), (200, {})]
    job = end(store, deploy(store), Origin(on_success=(receiver.url,)))
    first = run()
    until(lambda: [d for d in store.deliveries.of(job) if d.attempts == 1])
    first.stop()
    assert store.deliveries.of(job)[0].state is State.WAITING
    run()
    assert log_of(store, job)[0].state is State.DELIVERED
    assert len(receiver.requests) == 2


def test_the_operator_may_ask_for_handshakes_everywhere(
    store: Store, receiver: Receiver, run: Run
) -> None:
    """By the setting, whatever destinations say."""
    receiver.answers = [(200, {"WebHook-Allowed-Origin": "platform.example"})]
    run(webhook_handshake="on", webhook_origin="platform.example")
    job = end(store, deploy(store), Origin(on_success=(receiver.url,)))
    assert log_of(store, job)[0].state is State.DELIVERED
    assert [request.method for request in receiver.requests] == ["OPTIONS", "POST"]


def _never_answer(handler: BaseHTTPRequestHandler) -> None:
    # ends when the client gives up
    handler.rfile.read(1)


def _endless_fields(handler: BaseHTTPRequestHandler) -> None:
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X-Field: " + b"x" * 60_000 + b"\r\n")


def _no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xff\x00\xff SSH-2.0\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("act", [_never_answer, _endless_fields, _no_http])
def test_answers_that_are_none_are_given_up(
    store: Store, receiver: Receiver, run: Run, act: Callable[..., None]
) -> None:
    """After the attempts that any fault has."""
    receiver.act = act
    job = end(store, deploy(store), Origin(on_success=(receiver.url,)))
    run(webhook_timeout_s=0.2, delivery_attempts=2)
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.attempts, delivery.status) == (State.GIVEN_UP, 2, 0)
    assert delivery.error


def test_a_slow_receiver_holds_up_its_own_alone(store: Store, receiver: Receiver, run: Run) -> None:
    """While many deliveries wait for one that does not answer, others are told at once."""
    slow = Receiver()
    slow.act = _never_answer
    try:
        function = deploy(store)
        for _ in range(30):
            end(store, function, Origin(on_success=(slow.url,)))
        job = end(store, function, Origin(on_success=(receiver.url,)))
        run(webhook_timeout_s=1.0, delivery_attempts=1)
        assert log_of(store, job)[0].state is State.DELIVERED
        # of the slow one, eight are under way at once, for a second each
        assert len(slow.requests) <= 8
    finally:
        slow.close()
