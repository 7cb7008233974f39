"""Captured graphs under a budget of bytes, least recently used first to go.

A group's graph works on the buffers of its members: it leaves with the first of them. What leaves
is closed, which waits for a run that is under way and for nothing else.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, NamedTuple, Protocol, TypeVar

from fusion.errors import BudgetExceeded
from fusion.lru import ByteLru


class Closable(Protocol):
    """What is kept says how many bytes it takes, and gives them back."""

    @property
    def bytes(self) -> int:
        """Measured device bytes that end with it."""

    def close(self) -> None:
        """Free them, once the last use is done."""


K = TypeVar("K", bound=Hashable)
E = TypeVar("E", bound=Closable)


class GraphStats(NamedTuple):
    """Bytes now, and counts since the cache was made."""

    budget_bytes: int
    bytes: int
    entries: int
    captures: int
    evictions: int


class _Kept(NamedTuple, Generic[K, E]):
    entry: E
    needs: tuple[K, ...]


def _free(_: int) -> None:
    """Charge nobody."""


class GraphCache(Generic[K, E]):
    """Entries, pinned while they are used together with what they need.

    `charge` and `refund` (SlotTable's) are called without the cache's lock, since the table may
    ask it to `shrink` under its own.
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
        self._lock = threading.Lock()  # guards all below
        self._entries: ByteLru[K, _Kept[K, E]] = ByteLru()
        self._captures = 0
        self._evictions = 0

    def __contains__(self, key: K) -> bool:
        with self._lock:
            return key in self._entries

    @contextmanager
    def using(self, key: K) -> Iterator[E | None]:
        """The entry, pinned inside the context with what it needs; None where there is none."""
        kept = self._take(key)
        if kept is None:
            yield None
            return
        try:
            yield kept.entry
        finally:
            with self._lock:
                for each in (*kept.needs, key):
                    self._entries.unpin(each)
                    self._entries.touch(each)

    def put(self, key: K, entry: E, needs: Sequence[K] = ()) -> None:
        """Keep an absent key's entry; the caller uses all that it needs.

        Raises BudgetExceeded where it fits neither this budget nor the one that is charged; then
        it is not kept, and not closed.
        """
        bytes_ = entry.bytes
        with self._lock:
            assert all(self._entries.pins(each) for each in needs), "what it needs is not in use"
            victims = self._make_room(bytes_)
            self._entries.put(key, _Kept(entry, tuple(needs)), bytes_)
            self._entries.pin(key)  # the charge may ask this cache to shrink
        self._give_back(victims)
        try:
            self._charge(bytes_)
        except BudgetExceeded:
            with self._lock:
                self._entries.unpin(key)
                self._entries.pop(key)
            raise
        with self._lock:
            self._entries.unpin(key)
            self._captures += 1

    def shrink(self, bytes_: int) -> int:
        """Evict at least `bytes_`, or all that nobody uses; the bytes freed."""
        with self._lock:
            unused = sum(
                self._entries.bytes_of(key) for key in self._entries if not self._entries.pins(key)
            )
            victims = self._evict(self._entries.victims(min(bytes_, unused)))
        return self._give_back(victims)

    def stats(self) -> GraphStats:
        """What is held now, and counts."""
        with self._lock:
            return GraphStats(
                budget_bytes=self._budget_bytes,
                bytes=self._entries.bytes,
                entries=len(self._entries),
                captures=self._captures,
                evictions=self._evictions,
            )

    def check_integrity(self) -> None:
        """Recount from the entries; AssertionError says what differs."""
        with self._lock:
            self._entries.check_integrity()
            used = self._entries.bytes
            assert used <= self._budget_bytes, f"{used} bytes used of {self._budget_bytes}"
            for key in self._entries:
                missing = [k for k in self._entries[key].needs if k not in self._entries]
                assert not missing, f"{key!r} needs {missing!r}, which are gone"

    def _take(self, key: K) -> _Kept[K, E] | None:
        with self._lock:
            if key not in self._entries:
                return None
            kept = self._entries[key]
            for each in (*kept.needs, key):
                self._entries.pin(each)
            return kept

    def _make_room(self, bytes_: int) -> list[tuple[E, int]]:
        shortage_bytes = self._entries.bytes + bytes_ - self._budget_bytes
        if shortage_bytes <= 0:
            return []
        victims = self._entries.victims(shortage_bytes)
        if not victims:
            available_bytes = self._budget_bytes - self._entries.pinned_bytes
            raise BudgetExceeded(bytes_, available_bytes, "a captured graph beside those in use")
        return self._evict(victims)

    def _evict(self, victims: Sequence[K]) -> list[tuple[E, int]]:
        """Take entries out, and what needs them before them: whoever uses that uses them too."""
        leaving: dict[K, None] = {}
        for victim in victims:
            users = [key for key in self._entries if victim in self._entries[key].needs]
            leaving.update(dict.fromkeys([*users, victim]))
        taken = [(self._entries[key].entry, self._entries.bytes_of(key)) for key in leaving]
        for key in leaving:
            self._entries.pop(key)
        self._evictions += len(leaving)
        return taken

    def _give_back(self, taken: Sequence[tuple[E, int]]) -> int:
        for entry, _ in taken:
            entry.close()
        freed_bytes = sum(bytes_ for _, bytes_ in taken)
        self._refund(freed_bytes)
        return freed_bytes
