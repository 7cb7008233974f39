"""A service that delivers, and a receiver on a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from contract.settings import Settings
from contract.store import Store
from gateway.context import Gateway
from tests.integration.delivery.builders import SETTINGS, Receiver, Running, Shared


@pytest.fixture
def settings() -> Settings:
    """Quick, and allowed to reach this machine."""
    return SETTINGS


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


@pytest.fixture(scope="module")
def shared(redis_url: str) -> Iterator[Shared]:
    """A service that runs for all tests of a module: stores are emptied under it."""
    shared = Shared(redis_url)
    yield shared
    shared.close()


@pytest.fixture
def deliver(shared: Shared) -> Iterator[Callable[..., None]]:
    """From its call on the service delivers, by a resolver of the test where that is given."""
    yield shared.begin
    shared.end()


@pytest.fixture
def run(store: Store) -> Iterator[Callable[..., Running]]:
    """Starts a service of the test's own, with changed settings."""
    started: list[tuple[Running, Gateway]] = []

    def start(**changes: object) -> Running:
        gateway = Gateway.wire(replace(SETTINGS, **changes), store)  # type: ignore[arg-type]  # by name
        started.append((Running(gateway), gateway))
        return started[-1][0]

    yield start
    for running, _ in started:
        running.stop()
