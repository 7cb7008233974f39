"""A service that delivers, and a receiver on a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from contract.settings import Settings
from contract.store import Store
from gateway.context import Gateway
from tests.integration.delivery.builders import LOCAL, Receiver, Resolve, Running


@pytest.fixture
def settings() -> Settings:
    """Quick, and allowed to reach this machine."""
    return Settings(
        webhook_allow=("127.0.0.1", LOCAL),
        webhook_timeout_s=0.5,
        delivery_backoff_s=0.01,
        delivery_attempts=3,
        dlq_letters=5,
        dlq_bytes=100_000,
    )


@pytest.fixture
def gateway(settings: Settings, store: Store) -> Iterator[Gateway]:
    """A gateway over the store."""
    gateway = Gateway.wire(settings, store)
    yield gateway
    gateway.replies.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Somebody who is told."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def deliver(gateway: Gateway) -> Iterator[Callable[..., Running]]:
    """Starts the service, with a resolver of the test; it is stopped at the end."""
    started: list[Running] = []

    def start(resolve: Resolve | None = None) -> Running:
        running = Running(gateway, resolve)
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()
