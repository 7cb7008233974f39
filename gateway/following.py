"""Who follows which job in this process, and the one subscription that wakes them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread

from contract.errors import Unavailable
from contract.job import JobId
from contract.log import Log
from contract.store import Store
from contract.store.events import hear
from contract.store.subscription import RECONNECT_S

log = Log("gateway")


class Follower:
    """One client that is told of the events of one job."""

    __slots__ = ("_leave", "_wake", "job")

    def __init__(self, job: JobId, leave: Callable[[Follower], None]) -> None:
        self.job = job
        self._leave = leave
        self._wake = Event()

    def wait(self, timeout_s: float) -> bool:
        """Whether there may be more, before the time is over."""
        is_woken = self._wake.wait(timeout_s)
        # cleared before the job is read: what comes while it is wakes again
        self._wake.clear()
        return is_woken

    def wake(self) -> None:
        """There may be more."""
        self._wake.set()

    def leave(self) -> None:
        """Be told no more; more often is harmless."""
        self._leave(self)


class Following:
    """The followers of one gateway process; its listener starts with the first of them."""

    def __init__(self, store: Store, gateway_id: str, most: int) -> None:
        self._store = store
        self.gateway_id = gateway_id
        self._most = most
        self._followers: dict[JobId, set[Follower]] = {}
        self._count = 0
        self._lock = Lock()
        self._stop = Event()
        self._listener: Thread | None = None
        # the gateway drains: streams end, and clients come back to another process
        self.is_released = False

    def join(self, job: JobId) -> Follower:
        """Follow a job from here on: before it is read. Raises Unavailable where too many do."""
        follower = Follower(job, self._leave)
        with self._lock:
            if self.is_released or self._count >= self._most:
                why = "is about to stop" if self.is_released else f"has {self._most} of them"
                raise Unavailable(f"No more event streams here: this process {why}.")
            if self._listener is None:
                self._listener = Thread(target=self._listen, name="following", daemon=True)
                self._listener.start()
            self._followers.setdefault(job, set()).add(follower)
            self._count += 1
        return follower

    def release(self) -> None:
        """Let all followers go, now and from now on."""
        with self._lock:
            self.is_released = True
        self._wake_all()

    def close(self) -> None:
        """Stop the listener."""
        self._stop.set()
        if self._listener is not None:
            self._listener.join()

    def _leave(self, follower: Follower) -> None:
        with self._lock:
            group = self._followers.get(follower.job, set())
            if follower in group:
                group.remove(follower)
                self._count -= 1
                if not group:
                    del self._followers[follower.job]

    def _look(self, job: JobId) -> None:
        with self._lock:
            group = [*self._followers.get(job, ())]
        for follower in group:
            follower.wake()

    def _wake_all(self) -> None:
        """Everybody reads again: what was said without a subscription is lost."""
        with self._lock:
            followers = [one for group in self._followers.values() for one in group]
        for follower in followers:
            follower.wake()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                hear(self._store.server, self.gateway_id, self._look, self._wake_all, self._stop)
            except Exception:  # without a listener streams live on heartbeats alone
                log.exception("following_failed")
                self._stop.wait(RECONNECT_S)
