"""One process leads and runs the services; the standby takes over within seconds.

Two may believe to lead for a moment (a process that was stopped and goes on): services bear that,
for every call that they make is claimed under an id of what caused it.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from threading import Event, Thread

from contract.errors import StoreUnavailable
from contract.log import Log
from gateway.context import Gateway
from gateway.events.services import Service

log = Log("events")
ROLE = "events"
# The standby takes over this long after the leader's last sign of life.
LEASE_S = 3.0
RENEW_S = 0.75


class ServiceEnded(Exception):
    """A service of the process ended unasked, or did not end when asked."""


class Leader:
    """Runs the services in threads of their own whenever no other process does."""

    def __init__(self, gateway: Gateway, services: Sequence[Service]) -> None:
        self._gateway = gateway
        self._services = services
        # the process id is for whoever wants to know which of them leads
        self._token = f"{os.getpid()}-{secrets.token_hex(8)}"

    def run(self, stop: Event) -> None:
        """Lead or stand by until `stop`; raises ServiceEnded when a service has died."""
        try:
            while not stop.is_set():
                if self._holds():
                    self._lead(stop)
                else:
                    stop.wait(RENEW_S)
        finally:
            self._resign()

    def _lead(self, stop: Event) -> None:
        log.info("leading", services=",".join(service.name for service in self._services))
        over = Event()
        running = [_Running(self._gateway, service, over) for service in self._services]
        for each in running:
            each.thread.start()
        try:
            self._keep(stop, running)
        finally:
            over.set()
            give_up_at_s = time.monotonic() + self._gateway.settings.drain_s
            for each in running:
                each.thread.join(max(0.0, give_up_at_s - time.monotonic()))
        slow = [each.name for each in running if each.thread.is_alive()]
        if slow:
            raise ServiceEnded(f"{', '.join(slow)}: not ended within the time to drain")

    def _keep(self, stop: Event, running: Sequence[_Running]) -> None:
        """Return when the lead is lost or `stop` is set; raises ServiceEnded."""
        held_until_s = time.monotonic() + LEASE_S
        while not stop.wait(RENEW_S):
            dead = [each.name for each in running if not each.thread.is_alive()]
            if dead:
                raise ServiceEnded(f"{', '.join(dead)}: ended unexpectedly")
            asked_at_s = time.monotonic()
            holds = self._holds()
            if holds:
                held_until_s = asked_at_s + LEASE_S
            elif holds is False or asked_at_s >= held_until_s:
                log.warning("leadership_lost")
                return

    def _holds(self) -> bool | None:
        """Take or keep the lead; None where the store does not say."""
        try:
            return self._gateway.store.workers.lead(ROLE, self._token, LEASE_S)
        except StoreUnavailable:
            return None

    def _resign(self) -> None:
        try:
            self._gateway.store.workers.resign(ROLE, self._token)
        except StoreUnavailable:
            log.warning("resign_failed", lease_s=LEASE_S)


class _Running:
    """A service in its thread."""

    def __init__(self, gateway: Gateway, service: Service, over: Event) -> None:
        self.name = service.name
        self._service = service
        self._gateway = gateway
        self._over = over
        self.thread = Thread(target=self._run, name=service.name, daemon=True)

    def _run(self) -> None:
        """Run it; that it has ended shows in the thread."""
        try:
            self._service.run(self._gateway, self._over)
        except Exception:
            log.exception("service_failed", service=self.name)
