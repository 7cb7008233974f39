"""Identical tensors are resident once: where each of them lies, and which functions hold it.

A load fills a backing, the memory of one file, span by span. A function holds the spans of its own
backing and, for tensors that were resident when it came, those of others. A span is free when
nobody holds it: after its function is evicted, what others use of it stays, and nothing else.
Bookkeeping alone: it frees nothing and holds no lock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Protocol, cast

from torch import Tensor

from fusion.loaders import ResidentWeights
from fusion.spans import Layout
from fusion.weights import WeightEntry, WeightsIndex

# A smaller tensor is shared only along with those around it: its pages hold others as well.
LENT_BYTES = 64 * 1024

Holders = frozenset[str]
Content = tuple[str, str, tuple[int, ...]]


class PartedWeights(ResidentWeights, Protocol):
    """Weights of which spans can be freed one by one."""

    def tensor(self, number: int) -> Tensor:
        """One of those that were loaded, for another function."""

    def retire(self) -> None:
        """Forget all tensors but those that others may hold; `tensors` is not asked again."""

    def free(self, spans: Sequence[int]) -> list[int]:
        """Free what nobody holds; the spans that stay because a view is held elsewhere."""


@dataclass(eq=False, slots=True)
class Backing:
    """The memory that one load fills."""

    entries: tuple[WeightEntry, ...]
    layout: Layout
    # tensors that it does not have itself
    lent: Collection[int]
    # per span; nobody, where it was never loaded or is free
    holders: list[Holders]
    # once they have arrived
    weights: ResidentWeights | None = None
    # they never will
    is_lost: bool = False
    # where in an arena its spans lie, one behind another; see fusion.seating
    address: int | None = None

    @property
    def parts(self) -> PartedWeights:
        """The weights, which a loader that gave a layout of tensors has brought."""
        return cast(PartedWeights, self.weights)  # at run time a protocol is slow to ask

    def has(self, tensor: int) -> bool:
        """Whether it holds this tensor's bytes, or will."""
        return tensor not in self.lent and all(self.holders[s] for s in self.layout.tensors[tensor])

    def free(self, spans: Sequence[int]) -> Sequence[int]:
        """Free spans that nobody holds; those of which a view is held elsewhere."""
        if self.weights is None:
            return ()
        if self.layout.tensors:
            return self.parts.free(spans)
        return () if self.weights.close() else spans


class Found(NamedTuple):
    """A tensor that is resident, or about to be."""

    backing: Backing
    tensor: int


@dataclass(eq=False, slots=True)
class Placement:
    """Where the tensors of one function lie."""

    # later ones have tensors in earlier ones, never the other way
    number: int
    backing: Backing
    # by tensor: those that lie in other backings
    lent: dict[int, Found]
    held: dict[Backing, list[int]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """All that it holds, the spans of others included."""
        return sum(backing.layout.bytes_of(spans) for backing, spans in self.held.items())

    @property
    def load_bytes(self) -> int:
        """What its load takes."""
        return self.backing.layout.bytes_of(self.held[self.backing])

    def loaded_bytes(self, index: WeightsIndex) -> int:
        """Bytes of the tensors that its load brings."""
        lent_bytes = sum(self.backing.entries[tensor].nbytes for tensor in self.lent)
        return index.data_bytes - lent_bytes

    @property
    def is_lost(self) -> bool:
        """Whether a tensor that it counts on will not arrive."""
        return any(found.backing.is_lost for found in self.lent.values())

    @property
    def is_waiting(self) -> bool:
        """Whether a tensor that it counts on has not arrived yet."""
        return any(found.backing.weights is None for found in self.lent.values())

    def retire(self) -> None:
        """Its function is evicted: only what others use of it is kept."""
        if self.backing.layout.tensors:
            self.backing.parts.retire()

    def borrowed(self) -> dict[int, Tensor]:
        """The tensors that lie in other backings, all of which have arrived."""
        return {
            tensor: found.backing.parts.tensor(found.tensor) for tensor, found in self.lent.items()
        }


class Freed(NamedTuple):
    """Spans that nobody holds any more."""

    backing: Backing
    spans: Sequence[int]

    @property
    def bytes(self) -> int:
        """Of these spans."""
        return self.backing.layout.bytes_of(self.spans)


class Shares:
    """Who holds what; bytes that several functions hold count once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._placements: dict[str, Placement] = {}
        # distinct bytes, by exactly who holds them
        self._held: Counter[Holders] = Counter()
        self._found: dict[Content, Found] = {}
        self._count = 0

    @property
    def shared_bytes(self) -> int:
        """Held by more than one function."""
        return sum(bytes_ for holders, bytes_ in self._held.items() if len(holders) > 1)

    def bytes_held(self, keys: Collection[str]) -> int:
        """Distinct bytes that any of these functions holds."""
        return sum(b for holders, b in self._held.items() if not holders.isdisjoint(keys))

    def freed_in_turn(self) -> Callable[[str], int]:
        """Bytes that a function's going frees, after those asked for before have gone."""
        gone: set[str] = set()
        by_key: dict[str, list[Holders]] = defaultdict(list)
        for holders in self._held:
            for key in holders:
                by_key[key].append(holders)

        def freed(key: str) -> int:
            gone.add(key)
            return sum(self._held[holders] for holders in by_key[key] if holders <= gone)

        return freed

    def place(self, key: str, index: WeightsIndex, layout: Layout) -> Placement:
        """Count a function that is not placed, taking what is resident or about to be."""
        assert key not in self._placements, f"{key} is placed already"
        lent = self._lent(index.entries) if layout.tensors else {}
        nobody = [Holders()] * (len(layout.cuts) - 1)
        backing = Backing(index.entries, layout, lent.keys(), nobody)
        self._count += 1
        placement = Placement(self._count, backing, lent, {backing: layout.needed(lent)})
        spans: dict[Backing, set[int]] = defaultdict(set)
        for its, tensor in lent.values():
            spans[its].update(its.layout.tensors[tensor])
        placement.held |= {its: sorted(found) for its, found in spans.items()}
        for its, found in placement.held.items():
            self._change(its, found, lambda holders: holders | {key})
        self._placements[key] = placement
        if layout.tensors:
            self._know(backing)
        return placement

    def lose(self, key: str) -> None:
        """A function's load will not come: who counts on its tensors is to be placed anew."""
        backing = self._placements[key].backing
        backing.is_lost = True
        self._forget(backing, set(range(len(backing.holders))))

    def drop(self, key: str) -> list[Freed]:
        """A function goes: what nobody holds any more."""
        freed = []
        for backing, spans in self._placements.pop(key).held.items():
            self._change(backing, spans, lambda holders: holders - {key})
            free = [span for span in spans if not backing.holders[span]]
            if free:
                self._forget(backing, set(free))
                freed.append(Freed(backing, free))
        return freed

    def check_integrity(self) -> None:
        """Recount from the placements; AssertionError says what differs."""
        holders: dict[tuple[Backing, int], set[str]] = defaultdict(set)
        for key, placement in self._placements.items():
            for backing, spans in placement.held.items():
                for span in spans:
                    holders[backing, span].add(key)
        counted: Counter[Holders] = Counter()
        for (backing, span), keys in holders.items():
            assert backing.holders[span] == keys, f"{keys} hold what is {backing.holders[span]}'s"
            counted[Holders(keys)] += backing.layout.bytes_of([span])
        assert counted == self._held, f"{dict(counted)} are held, counted {dict(self._held)}"
        assert counted.total() == self.bytes, f"{counted.total()} bytes, counted {self.bytes}"
        for content, found in self._found.items():
            assert found.backing.has(found.tensor), f"{content} is not where it should be"
            assert content == _content(found.backing.entries[found.tensor])

    def _change(
        self, backing: Backing, spans: Iterable[int], change: Callable[[Holders], Holders]
    ) -> None:
        """Other holders of these spans; every change of a count goes through here."""
        changed: dict[Holders, Holders] = {}
        moved: Counter[Holders] = Counter()
        cuts, holders = backing.layout.cuts, backing.holders
        for span in spans:
            old = holders[span]
            if old not in changed:
                changed[old] = change(old)
            holders[span] = changed[old]
            moved[old] += cuts[span + 1] - cuts[span]
        for old, bytes_ in moved.items():
            for its_holders, difference in ((old, -bytes_), (changed[old], bytes_)):
                if its_holders:
                    self._held[its_holders] += difference
                    self.bytes += difference
                    if not self._held[its_holders]:
                        del self._held[its_holders]

    def _lent(self, entries: Sequence[WeightEntry]) -> dict[int, Found]:
        """Where these tensors are, as far as others have them."""
        lent = {}
        for tensor, entry in enumerate(entries):
            if entry.nbytes >= LENT_BYTES and (found := self._found.get(_content(entry))):
                lent[tensor] = found
        for before, after in pairwise([*lent]):
            lent |= _between(entries, before, after, lent[before], lent[after])
        return lent

    def _know(self, backing: Backing) -> None:
        for tensor, entry in enumerate(backing.entries):
            if entry.nbytes >= LENT_BYTES and tensor not in backing.lent:
                self._found.setdefault(_content(entry), Found(backing, tensor))

    def _forget(self, backing: Backing, freed: set[int]) -> None:
        for tensor, spans in enumerate(backing.layout.tensors):
            if not freed.isdisjoint(spans):
                content = _content(backing.entries[tensor])
                if self._found.get(content) == (backing, tensor):
                    del self._found[content]


def _between(
    entries: Sequence[WeightEntry], before: int, after: int, first: Found, last: Found
) -> dict[int, Found]:
    """Tensors between two lent ones are taken along where they lie between them there too."""
    backing, shift = first.backing, first.tensor - before
    if last != (backing, after + shift):
        return {}
    between = range(before + 1, after)
    alike = all(
        backing.has(tensor + shift)
        and _content(entries[tensor]) == _content(backing.entries[tensor + shift])
        for tensor in between
    )
    return {tensor: Found(backing, tensor + shift) for tensor in between} if alike else {}


def _content(entry: WeightEntry) -> Content:
    return entry.sha256, entry.dtype, entry.shape
