"""Bytes and pins in order of last use: the accounting shared by slots, DAGs and host copies."""

from collections import OrderedDict
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    bytes: int
    pins: int = 0


class ByteLru(Generic[K, V]):
    """Values with their bytes and pins, least recently used first.

    Policy only: it names victims and frees nothing, holds no lock and knows no budget.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Bytes of all entries."""
        return self._bytes

    @property
    def pinned_bytes(self) -> int:
        """Bytes of the entries that are pinned at least once."""
        return sum(entry.bytes for entry in self._entries.values() if entry.pins)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __getitem__(self, key: K) -> V:
        return self._entries[key].value

    def values(self) -> Iterator[V]:
        """The values, least recently used first."""
        return (entry.value for entry in self._entries.values())

    def pins(self, key: K) -> int:
        """How many users hold `key` now."""
        return self._entries[key].pins

    def bytes_of(self, key: K) -> int:
        """What `key` is counted with."""
        return self._entries[key].bytes

    def put(self, key: K, value: V, bytes_: int) -> None:
        """Add an absent key as the most recently used, unpinned."""
        assert key not in self._entries, f"{key!r} is already present"
        self._account(key, _Entry(value, 0), bytes_)

    def pop(self, key: K) -> V:
        """Remove an unpinned key and return its value."""
        entry = self._entries[key]
        assert entry.pins == 0, f"{key!r} is pinned {entry.pins} times"
        self._account(key, entry, None)
        return entry.value

    def resize(self, key: K, bytes_: int) -> None:
        """Count `key` with other bytes; its place in the order stays."""
        self._account(key, self._entries[key], bytes_)

    def touch(self, key: K) -> None:
        """Make `key` the most recently used."""
        self._entries.move_to_end(key)

    def pin(self, key: K) -> None:
        """Keep `key` from being a victim until a matching `unpin`."""
        self._entries[key].pins += 1

    def unpin(self, key: K) -> None:
        """Undo one `pin`."""
        entry = self._entries[key]
        assert entry.pins > 0, f"{key!r} is not pinned"
        entry.pins -= 1

    def victims(
        self,
        bytes_: int,
        spare: Container[K] = (),
        order: Iterable[K] | None = None,
        frees: Callable[[K], int] | None = None,
    ) -> list[K]:
        """The first unpinned keys of `order` that free `bytes_`; [] where they cannot.

        Without an order, the least recently used first. All or nothing: evicting some of what is
        needed would cost loads and admit nobody. `frees` is asked in order what each frees, where
        that is not what it is counted with.
        """
        chosen: list[K] = []
        freed = 0
        frees = frees or self.bytes_of
        for key in self._entries if order is None else order:
            if freed >= bytes_:
                break
            entry = self._entries[key]
            if entry.pins == 0 and key not in spare:
                chosen.append(key)
                freed += frees(key)
        return chosen if freed >= bytes_ else []

    def check_integrity(self) -> None:
        """Recount from the entries; AssertionError says what differs."""
        counted = sum(entry.bytes for entry in self._entries.values())
        assert counted == self._bytes, f"entries hold {counted} bytes, accounted {self._bytes}"
        for key, entry in self._entries.items():
            assert entry.bytes >= 0, f"{key!r} is counted with {entry.bytes} bytes"
            assert entry.pins >= 0, f"{key!r} has {entry.pins} pins"

    def _account(self, key: K, entry: _Entry[V], bytes_: int | None) -> None:
        """Every change of the total goes through here; None removes the entry."""
        assert bytes_ is None or bytes_ >= 0, f"{key!r}: {bytes_} bytes"
        self._bytes += (bytes_ or 0) - entry.bytes
        if bytes_ is None:
            del self._entries[key]
        else:
            entry.bytes = bytes_
            self._entries[key] = entry
