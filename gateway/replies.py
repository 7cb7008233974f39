"""Who waits for which job in this process, and the one subscription that tells them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

from contract.errors import StoreUnavailable, UnknownJob
from contract.job import JobId, Outcome
from contract.log import Log
from contract.store import Store
from contract.store.replies import listen
from contract.store.subscription import RECONNECT_S

log = Log("gateway")


class Waiter:
    """One request that waits for one job."""

    __slots__ = ("_outcome", "_wake", "is_poll", "job")

    def __init__(self, job: JobId, is_poll: bool) -> None:
        self.job = job
        # a poll may be answered without a result
        self.is_poll = is_poll
        self._wake = Event()
        self._outcome: bytes | None = None

    def wait(self, timeout_s: float) -> Outcome | None:
        """The job's outcome; None when the time is over or the gateway drains."""
        self._wake.wait(timeout_s)
        return None if self._outcome is None else Outcome.decode(self._outcome)

    @property
    def is_let_go(self) -> bool:
        """Whether it was woken."""
        return self._wake.is_set()

    def wake(self, outcome: bytes | None) -> None:
        """Give it the outcome, or None to let it go without."""
        if outcome is not None:
            self._outcome = outcome
        self._wake.set()


class Replies:
    """The waiters of one gateway process; its listener starts with the first of them."""

    def __init__(self, store: Store, max_waiters: int) -> None:
        self._store = store
        self._max_waiters = max_waiters
        self._count = 0
        self.gateway_id = secrets.token_hex(8)
        self._waiters: dict[JobId, list[Waiter]] = {}
        self._lock = Lock()
        self._stop = Event()
        self._listener: Thread | None = None
        self._lets_go_polls = self._lets_go_all = False

    @property
    def is_full(self) -> bool:
        """Whether as many wait as may; whoever comes now should not."""
        return self._count >= self._max_waiters

    @contextmanager
    def expect(self, job: JobId, is_poll: bool) -> Iterator[Waiter]:
        """Wait for a job from here on: enter before it is submitted or watched."""
        waiter = Waiter(job, is_poll)
        with self._lock:
            if self._listener is None:
                self._listener = Thread(target=self._listen, name="replies", daemon=True)
                self._listener.start()
            self._waiters.setdefault(job, []).append(waiter)
            self._count += 1
            if self._lets_go_all or (is_poll and self._lets_go_polls):
                waiter.wake(None)
        try:
            yield waiter
        finally:
            self._leave(waiter)

    def release(self, only_polls: bool) -> None:
        """Let the polls, or all who wait, go without a result, now and from now on."""
        with self._lock:
            self._lets_go_polls = True
            self._lets_go_all = not only_polls
            waiters = [waiter for group in self._waiters.values() for waiter in group]
        for waiter in waiters:
            if waiter.is_poll or not only_polls:
                waiter.wake(None)

    def close(self) -> None:
        """Stop the listener."""
        self._stop.set()
        if self._listener is not None:
            self._listener.join()

    def _leave(self, waiter: Waiter) -> None:
        with self._lock:
            self._count -= 1
            group = self._waiters.get(waiter.job)
            if group is not None and waiter in group:
                group.remove(waiter)
                if not group:
                    del self._waiters[waiter.job]

    def _deliver(self, job: JobId, outcome: bytes) -> None:
        with self._lock:
            group = self._waiters.pop(job, ())
        for waiter in group:
            waiter.wake(outcome)

    def _resync(self) -> None:
        """Read again what is waited for: replies of the time without subscription are lost."""
        with self._lock:
            jobs = list(self._waiters)
        for job in jobs:
            try:
                outcome = self._store.jobs.watch(job, self.gateway_id).outcome
            except UnknownJob:
                # not submitted yet; its reply will find the subscription in place
                continue
            if outcome is not None:
                self._deliver(job, outcome.encode())

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                listen(self._store.server, self.gateway_id, self._deliver, self._resync, self._stop)
            except StoreUnavailable as error:
                log.warning("resync_failed", reason=error)
                self._stop.wait(RECONNECT_S)
            except Exception:  # without a listener nobody here gets an answer
                log.exception("listener_failed")
                self._stop.wait(RECONNECT_S)
