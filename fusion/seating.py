"""Residency where weights lie in one arena: bytes that are free are not enough, they must adjoin.

The arena is taken from the budget as a whole: what of it is free is of no use to activations, and
what others give up is of none to weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate

from fusion.arena import Arena, Held
from fusion.errors import BudgetExceeded
from fusion.eviction import Order, by_recency, ranked
from fusion.leases import SlotRequest
from fusion.loaders import Loader, SeatedLoader
from fusion.residency import Group, Residency
from fusion.sharing import Backing, Placement


class SeatedResidency(Residency):
    """Slots in an arena, and beside it those whose loaders have memory of their own."""

    def __init__(self, loader: Loader, budget_bytes: int, order: Order = by_recency) -> None:
        assert isinstance(loader, SeatedLoader), "its loader has an arena"
        assert loader.arena_bytes <= budget_bytes, "the arena is part of the budget"
        super().__init__(loader, budget_bytes, order)
        self._arena = Arena(loader.arena_bytes)
        # where each span lies that is held; spans of no bytes are none
        self._seats: dict[Backing, dict[int, int]] = {}
        # counted, and without a place yet
        self._unseated: dict[str, Placement] = {}

    @property
    def weights_bytes(self) -> int:
        """The arena."""
        return self._arena.bytes

    def refuse_impossible(self, group: Group, scratch_bytes: int) -> None:
        """Raise BudgetExceeded for what no eviction can make fit, in the arena or beside it."""
        seated = {key: request for key, request in group.items() if self._is_seated(request)}
        beside = [request for key, request in group.items() if key not in seated]
        beside_bytes = sum(map(self._slot_bytes, beside)) + scratch_bytes
        room_bytes = self.budget_bytes - self._arena.bytes
        if beside_bytes > room_bytes:
            what = f"{', '.join(group) or 'scratch'}, beside weights,"
            raise BudgetExceeded(beside_bytes, room_bytes, what)
        super().refuse_impossible(seated, 0)

    def make_room(self, bytes_: int, spare: Collection[str], now_s: float) -> bool:
        """Evict until all have a place and `bytes_` fit beside the arena; False where they cannot.

        Nobody leaves for a group that cannot be seated as a whole.
        """
        self.sweep()
        waiting = {k: p for k, p in self._unseated.items() if p.load_bytes}
        if waiting:
            spared = self._kept().union(spare)
            order = ranked(self.slots, spared, self._order, self.history, now_s)
            sizes = [placement.load_bytes for placement in waiting.values()]
            seats = self._arena.seats(sizes, self._held(), order)
            if seats is None:
                return False
            for key in seats.victims:
                self.evict(key, now_s, is_pushed_out=True)
            for placement, begin in zip(waiting.values(), seats.begins, strict=True):
                self._seat(placement.backing, placement.held[placement.backing], begin)
        for placement in self._unseated.values():
            placement.backing.address = placement.backing.address or 0
        self._unseated.clear()
        return super().make_room(bytes_, spare, now_s)

    def start_over(self, group: Group, now_s: float) -> bool:
        """Evict the group's own, which may lie where the rest of it would."""
        own = [key for key in group if key in self.slots and not self.slots.pins(key)]
        for key in own:
            self.evict(key, now_s)
        return bool(own)

    def check_integrity(self) -> None:
        """Recount everything from the leases, slots and seats; AssertionError says what differs."""
        super().check_integrity()
        self._arena.check_integrity()
        marked = Arena(self._arena.bytes)
        for backing, places in self._seats.items():
            for span, begin in places.items():
                assert backing.holders[span], f"span {span} has a place, and nobody holds it"
                marked.take(begin, backing.layout.bytes_of([span]))
        assert marked.holes == self._arena.holes, f"{marked.holes}, counted {self._arena.holes}"
        beside = self.used_bytes + self._arena.free_bytes
        assert beside <= self.budget_bytes, f"{beside} bytes used of {self.budget_bytes}"

    def _is_seated(self, request: SlotRequest) -> bool:
        return isinstance(request.loader or self._loader, SeatedLoader)

    def _place(self, key: str, request: SlotRequest) -> Placement:
        placement = super()._place(key, request)
        if self._is_seated(request):
            self._unseated[key] = placement
        return placement

    def _abandon(self, key: str) -> None:
        self._unseated.pop(key, None)
        super()._abandon(key)

    def _seat(self, backing: Backing, spans: Sequence[int], begin: int) -> None:
        sizes = [backing.layout.bytes_of([span]) for span in spans]
        self._arena.take(begin, sum(sizes))
        backing.address = begin
        begins = accumulate(sizes, initial=begin)
        self._seats[backing] = dict(zip(spans, begins, strict=False))

    def _freed(self, backing: Backing, spans: Sequence[int], left: Sequence[int]) -> None:
        places = self._seats.get(backing)
        if places is None:  # it lies beside the arena, or was never given a place
            return
        for span in spans:
            if span not in left:
                self._arena.give_back(places.pop(span), backing.layout.bytes_of([span]))
        if not places:
            del self._seats[backing]

    def _held(self) -> Iterator[Held]:
        """What is taken, neighbours of the same holders as one."""
        for backing, places in self._seats.items():
            run: Held | None = None
            for span, begin in places.items():
                end = begin + backing.layout.bytes_of([span])
                holders = backing.holders[span]
                if run is not None and run.end == begin and run.holders == holders:
                    run = run._replace(end=end)
                    continue
                if run is not None:
                    yield run
                run = Held(begin, end, holders)
            if run is not None:
                yield run

    def _spared(self, spare: Collection[str]) -> set[str]:
        """Those in the arena too: their going makes no room beside it."""
        seated = {key for key in self.slots if self._is_seated(self.slots[key].request)}
        return super()._spared(spare) | seated

    def _shortage_bytes(self, bytes_: int) -> int:
        """Beside the arena, which is taken as a whole."""
        used_bytes = self.used_bytes + self._arena.free_bytes
        shortage_bytes = used_bytes + bytes_ - self.budget_bytes
        free_bytes = self._loader.free_bytes()
        if free_bytes is None:
            return shortage_bytes
        # slots that wait for their load have a claim on the memory that is free now
        claimed_bytes = sum(
            slot.placement.load_bytes
            for slot in self.slots.values()
            if slot.weights is None and not self._is_seated(slot.request)
        )
        return max(shortage_bytes, bytes_ + claimed_bytes + self.charged_bytes - free_bytes)
