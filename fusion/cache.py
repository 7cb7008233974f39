"""The DAG cache: built executables, LRU by measured bytes, pinned while they run."""

import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from fusion.errors import BudgetExceeded
from fusion.lru import ByteLru


class Sized(Protocol):
    """What is cached says how many bytes it takes."""

    @property
    def bytes(self) -> int:
        """Measured bytes, host or device, that end with the entry."""


K = TypeVar("K", bound=Hashable)
E = TypeVar("E", bound=Sized)


class CacheStats(NamedTuple):
    """Bytes now, and counts since the cache was made."""

    budget_bytes: int
    bytes: int
    pinned_bytes: int
    entries: int
    hits: int
    misses: int  # a call that waited for another's build is one too
    builds: int
    failed_builds: int
    evictions: int


@dataclass(slots=True)
class _Build(Generic[E]):
    """One build under way and how many wait for it besides the builder."""

    entry: Future[E] = field(default_factory=Future)
    waiters: int = 0


@dataclass(slots=True)
class _Counts:
    hits: int = 0
    misses: int = 0
    builds: int = 0
    failed_builds: int = 0
    evictions: int = 0


def _free(_: int) -> None:
    """Charge nobody."""


class DagCache(Generic[K, E]):
    """Entries under a budget of bytes; the cost of one is its `bytes`, its pins are its users.

    With `charge` and `refund` (SlotTable's) its bytes count in the device's budget too. Both are
    called without the cache's lock, since the table may ask it to `shrink` under its own.
    """

    def __init__(
        self,
        budget_bytes: int,
        charge: Callable[[int], None] = _free,
        refund: Callable[[int], None] = _free,
    ) -> None:
        self._budget_bytes = budget_bytes
        self._charge = charge
        self._refund = refund
        self._resizing = threading.Lock()  # one change of size at a time, its charge included
        self._lock = threading.Lock()  # guards all below; builds run outside it
        self._entries: ByteLru[K, E] = ByteLru()
        self._builds: dict[K, _Build[E]] = {}
        self._counts = _Counts()

    @contextmanager
    def get(self, key: K, build: Callable[[], E]) -> Iterator[E]:
        """The entry of `key`, pinned inside the context and built by one caller where absent.

        A failed build is not kept; what it raised reaches all who waited. Raises BudgetExceeded
        where the entry fits neither this budget nor the one that is charged.
        """
        entry = self._enter(key, build)
        try:
            yield entry
        finally:
            with self._lock:
                self._entries.unpin(key)
                self._entries.touch(key)

    def resize(self, key: K, bytes_: int) -> None:
        """Count a present entry, pinned by the caller, with the bytes it has grown or shrunk to.

        Raises BudgetExceeded where they do not fit; then it is counted as before.
        """
        with self._resizing:
            with self._lock:
                before_bytes = self._entries.bytes_of(key)
                freed_bytes = self._make_room(bytes_ - before_bytes, {key})
                self._entries.resize(key, max(bytes_, before_bytes))
            self._refund(freed_bytes)
            try:
                self._charge(max(bytes_ - before_bytes, 0))
            except BudgetExceeded:
                with self._lock:
                    self._entries.resize(key, before_bytes)
                raise
            with self._lock:
                self._entries.resize(key, bytes_)
            self._refund(max(before_bytes - bytes_, 0))

    def shrink(self, bytes_: int) -> int:
        """Evict at least `bytes_`, or all that nobody uses; the bytes freed."""
        with self._lock:
            unused = sum(
                self._entries.bytes_of(key) for key in self._entries if not self._entries.pins(key)
            )
            freed_bytes = self._evict(self._entries.victims(min(bytes_, unused)))
        self._refund(freed_bytes)
        return freed_bytes

    def keys(self) -> tuple[K, ...]:
        """What is cached, least recently used first."""
        with self._lock:
            return tuple(self._entries)

    def entries(self) -> tuple[E, ...]:
        """What is cached, as `keys` has it."""
        with self._lock:
            return tuple(self._entries[key] for key in self._entries)

    def stats(self) -> CacheStats:
        """What is held now, and counts."""
        with self._lock:
            return CacheStats(
                budget_bytes=self._budget_bytes,
                bytes=self._entries.bytes,
                pinned_bytes=self._entries.pinned_bytes,
                entries=len(self._entries),
                hits=self._counts.hits,
                misses=self._counts.misses,
                builds=self._counts.builds,
                failed_builds=self._counts.failed_builds,
                evictions=self._counts.evictions,
            )

    def check_integrity(self) -> None:
        """Recount from the entries; AssertionError says what differs."""
        with self._lock:
            self._entries.check_integrity()
            used = self._entries.bytes
            assert used <= self._budget_bytes, f"{used} bytes used of {self._budget_bytes}"

    def _enter(self, key: K, build: Callable[[], E]) -> E:
        with self._lock:
            # an entry is in the order before its charge succeeds: till then the build is asked
            current = self._builds.get(key)
            if current is None and key in self._entries:
                self._counts.hits += 1
                self._entries.pin(key)
                self._entries.touch(key)
                return self._entries[key]
            self._counts.misses += 1
            if current is None:
                self._builds[key] = _Build()
            else:
                current.waiters += 1
        try:
            return self._build(key, build) if current is None else self._join(key, current)
        finally:
            del current  # it holds the error, whose traceback holds this frame: no cycle

    def _join(self, key: K, current: _Build[E]) -> E:
        try:
            return current.entry.result()
        except BaseException:  # the build failed, or this thread is interrupted
            self._leave(key, current)
            raise
        finally:
            del current

    def _leave(self, key: K, current: _Build[E]) -> None:
        """Take back the pin that is, or will be, meant for an interrupted waiter."""
        with self._lock:
            if self._builds.get(key) is current:
                current.waiters -= 1
            elif current.entry.done() and current.entry.exception() is None:
                self._entries.unpin(key)

    def _build(self, key: K, build: Callable[[], E]) -> E:
        mine = self._builds[key]
        try:
            entry = build()
            self._insert(key, entry)
        except BaseException as error:
            with self._lock:
                del self._builds[key]
                self._counts.failed_builds += 1
            mine.entry.set_exception(error)
            del mine
            raise
        with self._lock:
            del self._builds[key]
            self._counts.builds += 1
            for _ in range(mine.waiters):
                self._entries.pin(key)
            mine.entry.set_result(entry)
        return entry

    def _insert(self, key: K, entry: E) -> None:
        """Add the entry pinned once, evicting for it; its bytes are known only now."""
        bytes_ = entry.bytes
        with self._lock:
            freed_bytes = self._make_room(bytes_, set())
            self._entries.put(key, entry, bytes_)
            self._entries.pin(key)
        self._refund(freed_bytes)
        try:
            self._charge(bytes_)
        except BudgetExceeded:
            with self._lock:
                self._entries.unpin(key)
                self._entries.pop(key)
            raise

    def _make_room(self, bytes_: int, spare: set[K]) -> int:
        """Evict until `bytes_` more fit; the bytes freed, to be refunded."""
        shortage_bytes = self._entries.bytes + bytes_ - self._budget_bytes
        if shortage_bytes <= 0:
            return 0
        victims = self._entries.victims(shortage_bytes, spare)
        if not victims:
            available_bytes = self._budget_bytes - self._entries.pinned_bytes
            raise BudgetExceeded(bytes_, available_bytes, "a DAG beside those that run")
        return self._evict(victims)

    def _evict(self, victims: list[K]) -> int:
        freed_bytes = sum(self._entries.bytes_of(key) for key in victims)
        for key in victims:
            self._entries.pop(key)
            self._counts.evictions += 1
        return freed_bytes
