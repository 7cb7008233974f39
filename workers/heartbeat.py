"""The sign of life of a worker, given by the loop that consumes its messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from contract.errors import StoreUnavailable
from contract.log import Log
from contract.store import Store
from contract.store.workers import WorkerReport
from workers.claims import Claims

log = Log("heartbeat")
LEAST_TTL_S = 3.0


class Rhythm(NamedTuple):
    """How often a worker beats and how long a lease lasts."""

    heartbeat_s: float
    lease_s: float

    @property
    def ttl_s(self) -> float:
        """A worker that has not beaten for this long is gone."""
        return max(3 * self.heartbeat_s, LEAST_TTL_S)


class Heartbeat:
    """Reports the worker, renews its leases, and does what is due from time to time.

    `describe(is_draining)` makes the report; `chores` are called with every beat.
    """

    def __init__(
        self,
        store: Store,
        claims: Claims,
        rhythm: Rhythm,
        describe: Callable[[bool], WorkerReport],
        chores: Sequence[Callable[[], None]],
    ) -> None:
        self._store = store
        self._claims = claims
        self.rhythm = rhythm
        self._describe = describe
        self._chores = chores
        self._is_draining = False
        # the scheduler is woken by the first report that arrives and by the one that drains
        self._is_news = True

    def beat(self) -> None:
        """One heartbeat; while the store is away it is logged and the next one tries again."""
        try:
            self._renew()
            self._report()
        except StoreUnavailable:
            log.warning("heartbeat_missed")
        for chore in self._chores:
            chore()

    def drain(self) -> None:
        """Say that no new group should come."""
        self._is_draining = self._is_news = True
        self.beat()

    def _renew(self) -> None:
        now_s = time.time()
        claims = self._claims.to_renew(now_s)
        if claims:
            lost = self._store.queue.renew(claims, now_s + self.rhythm.lease_s)
            if lost:
                self._claims.lose(lost)
                log.warning("claims_lost", jobs=len(lost))

    def _report(self) -> None:
        report = self._describe(self._is_draining)
        self._store.workers.report(report, self.rhythm.ttl_s, self._is_news)
        self._is_news = False
