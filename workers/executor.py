"""One group on its way through a worker: fetch, stage, compute, finish, settle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from threading import Event, Lock
from typing import NamedTuple

from contract.errors import FuseboxError, StoreUnavailable
from contract.function import FunctionRef
from contract.job import JobId
from contract.log import Log, bound
from contract.store import Store
from contract.store.queue import Fetched
from contract.trail import Planned
from workers import settle
from workers.claims import Claims
from workers.compute import Computer, expired
from workers.records import Ended, Staged, Tally
from workers.spans import JobSpans
from workers.stage import Sides, Stager

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


class Late(NamedTuple):
    """Jobs of one function whose hooks a group did not wait for: before or after its run."""

    jobs: Sequence[Fetched | Staged]
    future: Future[Sides] | Future[list[Ended]]


@dataclass
class Rest:
    """What is left of a group when its quick functions are through."""

    group: str
    fetched_at_s: float
    # for its run, weights included; by the scheduler
    predicted_s: float = 0.0
    behind: dict[FunctionRef, Late] = field(default_factory=dict)
    # by id, where spans are made of them
    fetched: dict[JobId, Fetched] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)


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
        threads: ThreadPoolExecutor,
        lanes: int = 1,
        spans: JobSpans | None = None,
    ) -> None:
        self._worker = worker
        self._store = store
        self._claims = claims
        self._stager = stager
        self._computer = computer
        self._patience = patience
        self._threads = threads
        self._lanes = lanes
        self._spans = spans
        self._stopped = Event()

    def run_group(self, group: str, jobs: Sequence[JobId]) -> None:
        """Run a group: those of these jobs that are still claimed for it.

        Jobs whose hooks are slow go on after it on threads of their own. Every job is settled, or
        its lease runs out.
        """
        with bound(group=group):
            self._claims.begin(group, time.time() + self._patience.lease_s)
            rest = Rest(group, time.time())
            try:
                self._run(rest, jobs)
            except BaseException:
                self._claims.end(group)
                raise
            if not rest.behind:
                self._claims.end(group)
            for ref, late in [*rest.behind.items()]:
                self._when_through(rest, ref, late)

    def stop(self) -> None:
        """Settle nothing more: what still runs is left to its leases."""
        self._stopped.set()

    def _run(self, rest: Rest, jobs: Sequence[JobId]) -> None:
        """End the quick jobs; the others are put into `rest`."""
        fetched: list[Fetched] = []
        tally = Tally()
        try:
            fetched = self._fetch(rest.group, jobs)
            rest.predicted_s = _predicted_s(fetched)
            if self._spans is not None:
                rest.fetched = {job.spec.id: job for job in fetched}
            ended = self._end_quick(fetched, rest, tally)
        except StoreUnavailable:
            log.warning("group_given_up", jobs=len(jobs))
            ended = []
        except Exception:  # the last line: whatever it is, the jobs must end
            log.exception("group_failed", jobs=len(jobs))
            rest.behind.clear()
            ended = [Ended.failed(job, FuseboxError()) for job in fetched]
        self._settle(rest, ended, tally)
        if rest.behind:
            late = {job.claim.job for its in rest.behind.values() for job in its.jobs}
            self._claims.keep_only(rest.group, late)

    def _when_through(self, rest: Rest, ref: FunctionRef, late: Late) -> None:
        """No thread waits for hooks but the one that calls them."""

        def go_on(_through: object) -> None:
            self._threads.submit(self._catch_up, rest, ref, late)

        late.future.add_done_callback(go_on)

    def _catch_up(self, rest: Rest, ref: FunctionRef, late: Late) -> None:
        """Bring the jobs of one function to their end, however long its hooks take."""
        with bound(group=rest.group):
            tally = Tally()
            try:
                ended = self._end_late(late, tally)
            except Exception:  # the last line here too
                log.exception("group_failed", function=ref, jobs=len(late.jobs))
                ended = [Ended.failed(job, FuseboxError()) for job in late.jobs]
            # one after the other: each report names those that are still behind
            with rest.lock:
                del rest.behind[ref]
                try:
                    self._settle(rest, ended, tally)
                except StoreUnavailable:
                    log.warning("group_given_up", jobs=len(late.jobs))
                if not rest.behind:
                    self._claims.end(rest.group)

    def _fetch(self, group: str, jobs: Sequence[JobId]) -> list[Fetched]:
        fetched = self._store.queue.fetch(group, jobs)
        for job in fetched:
            self._claims.hold(group, job.claim, self._patience.until_s(job.spec.deadline_s))
        return fetched

    def _end_quick(self, fetched: Sequence[Fetched], rest: Rest, tally: Tally) -> list[Ended]:
        now_s = time.time()
        ended = [expired(job) for job in fetched if job.spec.deadline_s <= now_s]
        tally.expired += len(ended)
        alive = [job for job in fetched if job.spec.deadline_s > now_s]
        with self._computer.expecting(self._stager.with_preprocess(alive)):
            sides, behind = self._stager.stage(alive)
        for ref, future in behind.items():
            rest.behind[ref] = Late([job for job in alive if job.spec.ref == ref], future)
        ran, unran = self._computer.compute([job for its in sides for job in its.staged], tally)
        results, unfinished = self._stager.finish(ran)
        for ref, finishing in unfinished.items():
            jobs = [one.job for one in ran if one.job.function.ref == ref]
            rest.behind[ref] = Late(jobs, finishing)
        return [*ended, *chain(*(its.ended for its in sides)), *unran, *chain(*results)]

    def _end_late(self, late: Late, tally: Tally) -> list[Ended]:
        result = late.future.result()
        if not isinstance(result, Sides):
            return result
        ran, unran = self._computer.compute(result.staged, tally)
        results, unfinished = self._stager.finish(ran)
        last = [future.result() for future in unfinished.values()]
        return [*result.ended, *unran, *chain(*results, *last)]

    def _settle(self, rest: Rest, ended: Sequence[Ended], tally: Tally) -> None:
        """One settlement for these jobs; tried again while the store is away and claims hold."""
        if self._stopped.is_set():
            # its hooks may have failed only because their hosts were ended
            return
        now_s = time.time()
        settlements = settle.settlements(ended, rest.fetched_at_s, now_s)
        counters = settle.counters(ended, tally, rest.fetched_at_s, now_s)
        report = settle.report(rest.group, self._worker, ended, tally, rest.behind, self._lanes)
        report = report._replace(predicted_s=rest.predicted_s, taken_at_s=rest.fetched_at_s)
        last = max((one.spec.deadline_s for one in ended), default=time.time())
        give_up_at_s = self._patience.until_s(last)
        while True:
            try:
                settled = self._store.queue.settle(settlements, counters, rest.group, report)
                break
            except StoreUnavailable:
                if time.time() > give_up_at_s or self._stopped.wait(RETRY_S):
                    raise
        if self._spans is not None:
            self._spans.write(rest.fetched, settlements, settled, report)
        void = settled.count(False)
        if void:
            log.warning("settled_in_vain", jobs=void)


def _predicted_s(fetched: Sequence[Fetched]) -> float:
    """What the scheduler took the group for; it says the same of each of its jobs."""
    return Planned.decode(fetched[0].planned).predicted_s if fetched and fetched[0].planned else 0.0
