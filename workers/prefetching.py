"""Weights of functions whose jobs still wait are brought in while others compute."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import NamedTuple

from contract.errors import FuseboxError
from contract.function import Function, FunctionRef
from contract.log import Log
from contract.store.coming import listen
from contract.store.server import Server
from fusion.errors import FusionError
from fusion.leases import Lease
from fusion.slots import SlotRequest, SlotTable
from workers.library import Library, Loaded
from workers.prefetch_policy import AGAIN_S, Device, next_to_bring_in, spare

log = Log("prefetching")


class PrefetchStats(NamedTuple):
    """Counts since the worker started."""

    prefetches: int = 0
    # that were still there when their first group came, or under way
    hits: int = 0


def _as_it_is(_function: Function, loaded: Loaded) -> Loaded:
    """Every function fits."""
    return loaded


class Prefetcher:
    """Thread-safe; weights come in on one thread of its own, one function at a time.

    A group that comes meanwhile waits for that one load at most, and only where it needs the room;
    a group of the function itself has that much less to wait for.
    """

    def __init__(
        self,
        slots: SlotTable,
        library: Library,
        find: Callable[[FunctionRef], Function],
        clock: Callable[[], float] = time.monotonic,
        fitted: Callable[[Function, Loaded], Loaded] = _as_it_is,
    ) -> None:
        self._slots = slots
        # what does not fit as a whole is brought in as it runs in blocks
        self._fitted = fitted
        self._library = library
        self._find = find
        self._clock = clock
        self._changed = threading.Condition()  # guards all below
        self._news = 0
        self._is_stopped = False
        # by the scheduler; and parts of groups that this worker has
        self._coming: list[FunctionRef] = []
        self._later: Counter[FunctionRef] = Counter()
        self._tried_s: dict[str, float] = {}
        # brought in, and no group has come yet
        self._fresh: set[str] = set()
        self._counts = PrefetchStats()

    def expect(self, functions: Iterable[FunctionRef]) -> None:
        """Replace what the scheduler says is coming, the most urgent first."""
        with self._changed:
            self._coming = list(functions)
            self._wake()

    @contextmanager
    def until_its_turn(self, functions: Iterable[FunctionRef]) -> Iterator[None]:
        """These functions are next when what runs inside has ended; none: nothing changes."""
        functions = list(functions)
        if not functions:
            yield
            return
        with self._changed:
            self._later.update(functions)
            self._wake()
        try:
            yield
        finally:
            with self._changed:
                self._later.subtract(functions)
                self._later = +self._later

    def used(self, lease: Lease) -> None:
        """A group has its weights."""
        with self._changed:
            for key in self._fresh & lease.slots.keys():
                self._fresh.discard(key)
                if key not in lease.cold:
                    self._counts = self._counts._replace(hits=self._counts.hits + 1)
            for key in lease.slots:
                self._tried_s.pop(key, None)

    def look(self) -> None:
        """There may be room now."""
        with self._changed:
            self._wake()

    def stats(self) -> PrefetchStats:
        """Counts now."""
        with self._changed:
            return self._counts

    def run(self) -> None:
        """Bring in what is coming, until stopped; in a thread of its own."""
        seen = -1
        while True:
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._is_stopped or self._news != seen)  # type: ignore[misc]  # of the lambda
                if self._is_stopped:
                    return
                seen = self._news
            try:
                while self.bring_in_one():
                    pass
            except Exception:  # it costs a swap later; this thread serves on
                log.exception("prefetch_failed")

    def stop(self) -> None:
        """End `run` when the load that is under way is done."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def bring_in_one(self) -> bool:
        """Bring in the most urgent function that fits; whether there was one to try."""
        now_s = self._clock()
        with self._changed:
            if self._is_stopped:
                return False
            coming = [*dict.fromkeys(chain(self._later, self._coming))]
            self._tried_s = {k: at for k, at in self._tried_s.items() if now_s - at < AGAIN_S}
            tried_s = dict(self._tried_s)
        device = _device(self._slots)
        if {str(ref) for ref in coming} <= {*device.resident}:
            return False
        requests = {request.key: request for request in self._requests(coming)}
        sizes = {key: _bytes(request) for key, request in requests.items()}
        sizes |= self._library.file_bytes([key for key in device.pinned if key not in sizes])
        key = next_to_bring_in([*requests], device, sizes, tried_s, now_s)
        if key is None:
            return False
        spared = [requests[other] for other in spare([*requests], device)]
        self._load(requests[key], spared, now_s)
        return True

    def _load(self, request: SlotRequest, spared: list[SlotRequest], now_s: float) -> None:
        with self._changed:
            self._tried_s[request.key] = now_s
            # before it is there: a group that waits for this very load is spared most of it
            self._fresh.add(request.key)
        is_in = False
        try:
            # what is spared cannot leave while it is held; nothing is waited for
            lease = self._slots.acquire([request, *spared], timeout_s=0)
            lease.has_run = False
            lease.release()
            # else a group has brought it in meanwhile
            is_in = request.key in lease.cold
            log.debug("prefetched", function=request.key, load_s=lease.load_s)
        except (FusionError, OSError) as error:
            # no room, no time to wait, or damaged: its jobs will end with the reason
            log.debug("not_prefetched", function=request.key, reason=error)
        finally:
            with self._changed:
                if is_in:
                    self._counts = self._counts._replace(prefetches=self._counts.prefetches + 1)
                else:
                    self._fresh.discard(request.key)

    def _requests(self, coming: Iterable[FunctionRef]) -> list[SlotRequest]:
        """Of the functions whose weights can wait in slots."""
        found = []
        for ref in coming:
            try:
                function = self._find(ref)
                # an eager one is in when its host runs; one that does not stay cannot wait here
                if not function.manifest.is_eager and function.manifest.keep_alive_s != 0:
                    found.append(self._fitted(function, self._library.get(function)).slot)
            except (FuseboxError, FusionError, OSError) as error:
                # its jobs will end with the reason
                log.debug("not_prefetched", function=ref, reason=error)
        return found

    def _wake(self) -> None:
        if self._coming or self._later:
            self._news += 1
            self._changed.notify_all()


def _bytes(request: SlotRequest) -> int:
    """What its slot takes, about."""
    index = request.index
    return index.file_bytes if request.loader is None else request.loader.slot_bytes(index)


def start(prefetcher: Prefetcher, server: Server, worker: str) -> Callable[[], None]:
    """Prefetch what the scheduler tells this worker of; the function that stops it.

    Both threads may be in the middle of something when the process ends.
    """
    stopped = threading.Event()
    hear = partial(listen, server, worker, prefetcher.expect, stopped)
    for name, target in (("prefetch", prefetcher.run), ("coming", hear)):
        threading.Thread(target=target, name=name, daemon=True).start()

    def stop() -> None:
        stopped.set()
        prefetcher.stop()

    return stop


def _device(slots: SlotTable) -> Device:
    now = slots.stats()
    taken_bytes = now.scratch_bytes + now.charged_bytes + now.leaving_bytes
    return Device(now.budget_bytes, taken_bytes, now.resident, now.pinned, now.waiting)
