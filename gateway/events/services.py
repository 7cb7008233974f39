"""What runs under the lead: one row for each service."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import NamedTuple

from gateway.context import Gateway
from gateway.delivery.service import run as run_deliveries
from gateway.triggers.service import run as run_triggers

# Runs until the event is set, which is within seconds of this process losing the lead. It bears a
# store that does not answer; any error that leaves it ends the process.
Run = Callable[[Gateway, Event], None]


class Service(NamedTuple):
    """Something that exactly one process does at a time."""

    # as its thread is called, and in the log
    name: str
    run: Run


SERVICES: tuple[Service, ...] = (
    Service("triggers", run_triggers),
    Service("deliveries", run_deliveries),
)
