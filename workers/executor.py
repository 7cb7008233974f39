"""One group on its way through a worker: fetch, stage, compute, finish, settle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event
from typing import NamedTuple

from contract.errors import FuseboxError, StoreUnavailable
from contract.job import Claim
from contract.log import Log, bound
from contract.store import Store
from contract.store.queue import Fetched
from workers import settle
from workers.claims import Claims
from workers.compute import Computer, expired
from workers.records import Ended, Tally
from workers.stage import Stager

log = Log("executor")
RETRY_S = 0.2


class Patience(NamedTuple):
    """How long a worker holds on to a job that is past its deadline."""

    lease_s: float
    # hooks may still run when the deadline passes
    hooks_s: float

    def until_s(self, deadline_s: float) -> float:
        """When the job's lease is left to run out."""
        return deadline_s + self.hooks_s + self.lease_s


class Executor:
    """Runs groups; called from the threads of the pool, one group each."""

    def __init__(
        self,
        worker: str,
        store: Store,
        claims: Claims,
        stager: Stager,
        computer: Computer,
        patience: Patience,
    ) -> None:
        self._worker = worker
        self._store = store
        self._claims = claims
        self._stager = stager
        self._computer = computer
        self._patience = patience
        self._stopped = Event()

    def run_group(self, group: str, claims: Sequence[Claim]) -> None:
        """Run a claimed group to its end; every job is settled, or its lease runs out."""
        with bound(group=group):
            self._claims.begin(group, claims, time.time() + self._patience.lease_s)
            try:
                self._run(group, claims)
            finally:
                self._claims.end(group)

    def stop(self) -> None:
        """Settle nothing more: what still runs is left to its leases."""
        self._stopped.set()

    def _run(self, group: str, claims: Sequence[Claim]) -> None:
        fetched: list[Fetched] = []
        tally = Tally()
        fetched_at_s = time.time()
        try:
            fetched = self._fetch(claims)
            ended = self._end_all(fetched, tally)
        except StoreUnavailable:
            log.warning("group_given_up", jobs=len(claims))
            ended = []
        except Exception:  # the last line: whatever it is, the jobs must end
            log.exception("group_failed", jobs=len(claims))
            ended = [Ended.failed(job, FuseboxError()) for job in fetched]
        self._settle(group, ended, tally, fetched_at_s)

    def _fetch(self, claims: Sequence[Claim]) -> list[Fetched]:
        fetched = self._store.queue.fetch(claims)
        for job in fetched:
            self._claims.keep_until(job.claim.job, self._patience.until_s(job.spec.deadline_s))
        return fetched

    def _end_all(self, fetched: Sequence[Fetched], tally: Tally) -> list[Ended]:
        now_s = time.time()
        late = [expired(job) for job in fetched if job.spec.deadline_s <= now_s]
        tally.expired += len(late)
        staged, failed = self._stager.stage(job for job in fetched if job.spec.deadline_s > now_s)
        ran, unran = self._computer.compute(staged, tally)
        return [*late, *failed, *unran, *self._stager.finish(ran)]

    def _settle(
        self, group: str, ended: Sequence[Ended], tally: Tally, fetched_at_s: float
    ) -> None:
        """One settlement for all jobs; tried again while the store is away and the claims hold."""
        if self._stopped.is_set():
            # its hooks may have failed only because their hosts were ended
            return
        settlements = settle.settlements(ended, fetched_at_s, time.time())
        counters = settle.counters(ended, tally, fetched_at_s)
        report = settle.report(group, self._worker, ended, tally)
        last = max((one.spec.deadline_s for one in ended), default=time.time())
        give_up_at_s = self._patience.until_s(last)
        while True:
            try:
                settled = self._store.queue.settle(settlements, counters, group, report)
                break
            except StoreUnavailable:
                if time.time() > give_up_at_s or self._stopped.wait(RETRY_S):
                    raise
        void = settled.count(False)
        if void:
            log.warning("settled_in_vain", jobs=void)
