"""Triggers under the lead of the events process."""

from __future__ import annotations

from threading import Event

from gateway.context import Gateway


def run(gateway: Gateway, stop: Event) -> None:
    """Fire what is due until `stop`."""
    stop.wait()
