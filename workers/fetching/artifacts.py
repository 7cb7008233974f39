"""Brings artifacts to this worker before they are needed, and keeps those that it uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from contract.errors import ArtifactUnavailable
from contract.function import Function, FunctionRef
from contract.log import Log
from workers.fetching.remote import Remote
from workers.fetching.shelf import Hold, Shelf

log = Log("fetching")
# artifacts at once; each in several parts
FETCHES = 2
# An artifact may go when no function of it was asked for so long; it may still be read from.
USED_S = 300.0
# A store that was asked in vain is not asked again for every job.
AGAIN_S = 1.0


@dataclass
class _Held:
    hold: Hold
    used_at_s: float
    refs: set[str] = field(default_factory=set)


class Fetching:
    """Artifacts of a URL on a shelf; thread-safe.

    `in_use` are functions, NAME@VERSION, that read from their artifacts for longer than a job: the
    resident ones and those with hosts. Whoever wants an artifact waits `wait_s` at most.
    """

    def __init__(
        self,
        shelf: Shelf,
        remote: Remote,
        wait_s: float,
        in_use: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shelf = shelf
        self._remote = remote
        self._wait_s = wait_s
        self._in_use = in_use
        self._clock = clock
        self._threads = ThreadPoolExecutor(FETCHES, "artifact")
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._coming: dict[str, Future[None]] = {}
        # when, and how
        self._failed: dict[str, tuple[float, ArtifactUnavailable]] = {}

    def is_here(self, function: Function) -> bool:
        """Whether it can be read now, and will be as long as it is in use."""
        with self._lock:
            held = self._held.get(function.digest)
            if held is None:
                hold = self._shelf.hold(function.digest)
                if hold is None:
                    return False
                held = self._held[function.digest] = _Held(hold, 0.0)
            held.used_at_s = self._clock()
            held.refs.add(str(function.ref))
            return True

    def bring(self, function: Function) -> None:
        """Return when it is here; raises ArtifactUnavailable. Who asks meanwhile waits for it."""
        if self.is_here(function):
            return
        digest = function.digest
        with self._lock:
            at_s, error = self._failed.get(digest, (-AGAIN_S, ArtifactUnavailable()))
            if self._clock() - at_s < AGAIN_S:
                raise ArtifactUnavailable(error.detail)
            future = self._coming.get(digest)
            if future is None:
                future = self._coming[digest] = self._threads.submit(self._fetch, digest)
        try:
            future.result(self._wait_s)
        except TimeoutError as error:
            raise ArtifactUnavailable(
                f"{function.ref}: its artifact is still being fetched; call again"
            ) from error
        if not self.is_here(function):
            raise ArtifactUnavailable(f"{function.ref}: its artifact went as it came; call again")

    def finding(self, find: Callable[[FunctionRef], Function]) -> Callable[[FunctionRef], Function]:
        """`find`, which returns when the function's artifact is here."""

        def find_here(ref: FunctionRef) -> Function:
            function = find(ref)
            self.bring(function)
            return function

        return find_here

    def look(self) -> None:
        """Let go of what is not used any more, now and then."""
        in_use = set(self._in_use())
        before_s = self._clock() - USED_S
        with self._lock:
            for digest, held in [*self._held.items()]:
                if held.used_at_s < before_s and not held.refs & in_use:
                    self._held.pop(digest).hold.release()

    def stop(self) -> None:
        """Fetch nothing more; what is under way is given up."""
        self._remote.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, digest: str) -> None:
        began_s = self._clock()
        try:
            size_bytes = self._remote.size_bytes(digest)
            self._shelf.put(
                digest, size_bytes, lambda tar: self._remote.fetch(digest, size_bytes, tar)
            )
            hold = self._shelf.hold(digest)
            if hold is not None:
                with self._lock:
                    self._held.setdefault(digest, _Held(hold, self._clock()))
            took_s = self._clock() - began_s
            log.info("fetched", artifact=digest, bytes=size_bytes, seconds=round(took_s, 3))
        except OSError as error:
            log.exception("artifact_not_kept", artifact=digest)
            self._note(digest, ArtifactUnavailable(f"artifact {digest}: no room to keep it"))
            raise self._failed[digest][1] from error
        except ArtifactUnavailable as error:
            self._note(digest, error)
            raise
        finally:
            with self._lock:
                del self._coming[digest]

    def _note(self, digest: str, error: ArtifactUnavailable) -> None:
        with self._lock:
            self._failed = {d: f for d, f in self._failed.items() if f[0] > self._clock() - AGAIN_S}
            self._failed[digest] = (self._clock(), error)
