"""What is in a device's memory, and what must leave so that more fits.

What counts: weights in slots, from before they arrive until their memory is free again, scratch
that leases reserve for activations, and what others charge. The sum never exceeds the budget.
Identical tensors count once, as long as any function holds them (`fusion.sharing`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fusion.errors import BudgetExceeded
from fusion.eviction import Order, by_recency, choose_victims
from fusion.history import History
from fusion.leases import Lease, Slot, SlotRequest
from fusion.loaders import Loader, SharingLoader
from fusion.lru import ByteLru
from fusion.sharing import Backing, Freed, Placement, Shares
from fusion.spans import whole

Group = Mapping[str, SlotRequest]

# of the budget; with less left to swap in, every other function would wait for one slot
KEPT_SHARE = 0.75


class Residency:
    """Slots and leases of one device, and the eviction policy. SlotTable lends it its lock."""

    def __init__(self, loader: Loader, budget_bytes: int, order: Order = by_recency) -> None:
        self.budget_bytes = budget_bytes
        self.history = History()
        # each with all the bytes that it holds; what several hold counts once in `shares`
        self.slots: ByteLru[str, Slot] = ByteLru()
        self.shares = Shares()
        self.leases: set[Lease] = set()
        self.charged_bytes = 0
        self.evictions = 0
        self.reclaim: Callable[[int], int] = lambda _: 0  # asks others for bytes
        self._loader = loader
        self._order = order
        self._leaving: list[Freed] = []

    @property
    def weights_bytes(self) -> int:
        """The most that weights may take."""
        return self.budget_bytes

    @property
    def scratch_bytes(self) -> int:
        """Reserved for activations."""
        return sum(lease.scratch_bytes for lease in self.leases)

    @property
    def leaving_bytes(self) -> int:
        """Evicted, and still taken because a view is held somewhere."""
        return sum(freed.bytes for freed in self._leaving)

    @property
    def used_bytes(self) -> int:
        """Everything that counts in the budget."""
        return self.shares.bytes + self.scratch_bytes + self.charged_bytes + self.leaving_bytes

    @property
    def pinned_bytes(self) -> int:
        """Weights that a lease holds."""
        return self.shares.bytes_held({key for key in self.slots if self.slots.pins(key)})

    @property
    def available_bytes(self) -> int:
        """What would be free if everything that may be evicted were."""
        return self._evictable_bytes(self._kept()) - self._shortage_bytes(0)

    def refuse_impossible(self, group: Group, scratch_bytes: int) -> None:
        """Raise BudgetExceeded for what no eviction can make fit."""
        kept = self._kept() - group.keys()
        kept_bytes = self.shares.bytes_held(kept) if kept else 0
        new_kept = [key for key, request in group.items() if request.is_kept]
        most_bytes = sum(map(self._slot_bytes, group.values())) + scratch_bytes
        room_bytes = self.weights_bytes - kept_bytes
        if most_bytes <= room_bytes and not new_kept:
            return
        if self.is_lost(self.slots):
            return  # what they hold is to be placed anew, and would count twice
        with self._tried(group):
            held_bytes = self.shares.bytes_held(kept | group.keys())
            all_kept_bytes = self.shares.bytes_held(kept.union(new_kept))
        needed_bytes = held_bytes - kept_bytes + scratch_bytes
        what = ", ".join(group) or "scratch"
        if needed_bytes > room_bytes:
            beside = " beside functions with keep_alive_s -1" if kept_bytes else ""
            raise BudgetExceeded(needed_bytes, room_bytes, what + beside)
        limit_bytes = int(self.weights_bytes * KEPT_SHARE)
        if new_kept and all_kept_bytes > limit_bytes:
            what = f"keeping every function with keep_alive_s -1 ({what})"
            raise BudgetExceeded(all_kept_bytes, limit_bytes, what)

    def room_bytes(self, request: SlotRequest) -> int:
        """The most that this function could ever get alone: what others keep stays."""
        kept_bytes = self.shares.bytes_held(self._kept() - {request.key})
        share = KEPT_SHARE if request.is_kept else 1.0
        return int(self.weights_bytes * share) - kept_bytes

    def place(self, group: Group) -> list[str]:
        """Slots for those that have none, counted and pinned; their keys, for `withdraw`.

        Before there is room for them: what they share is not evicted meanwhile.
        """
        missing = [key for key in group if key not in self.slots]
        for key in missing:
            placement = self._place(key, group[key])
            self.slots.put(key, Slot(group[key], placement), placement.bytes)
            self.slots.pin(key)
        return missing

    def withdraw(self, keys: Collection[str]) -> None:
        """Undo `place`."""
        for key in keys:
            self.slots.unpin(key)
            self._abandon(key)
        self.sweep()

    def load_bytes(self, keys: Collection[str]) -> int:
        """What these functions' own loads take."""
        return sum(self.slots[key].placement.load_bytes for key in keys)

    def is_lost(self, keys: Iterable[str]) -> bool:
        """Whether a slot awaits a tensor in vain; it goes when its leases have gone."""
        for key in keys:
            if key in self.slots:
                slot = self.slots[key]
                if slot.weights is None and slot.placement.is_lost:
                    return True
        return False

    @contextmanager
    def _tried(self, group: Group) -> Iterator[None]:
        placed = self.place(group)
        try:
            yield
        finally:
            self.withdraw(placed)

    def _place(self, key: str, request: SlotRequest) -> Placement:
        loader = request.loader or self._loader
        if isinstance(loader, SharingLoader):
            return self.shares.place(key, request.index, loader.layout(request.index))
        return self.shares.place(key, request.index, whole(loader.slot_bytes(request.index)))

    def make_room(self, bytes_: int, spare: Collection[str], now_s: float) -> bool:
        """Evict until `bytes_` fit, sparing what the group itself needs; False where they cannot.

        Measured again after each round: bytes freed are not always bytes to be had.
        """
        self.sweep()
        spared: set[str] | None = None
        while (shortage_bytes := self._shortage_bytes(bytes_)) > 0:
            spared = spared or self._spared(spare)
            victims = choose_victims(
                self.slots,
                shortage_bytes,
                spared,
                self._order,
                self.history,
                now_s,
                self.shares.freed_in_turn(),
            )
            for key in victims:
                self.evict(key, now_s, is_pushed_out=True)
            if not victims and not self._reclaim(shortage_bytes - self._evictable_bytes(spared)):
                return False
        return True

    def _spared(self, spare: Collection[str]) -> set[str]:
        """Whose going is not wanted, or would be of no use."""
        return self._kept().union(spare)

    def start_over(self, group: Group, now_s: float) -> bool:
        """Where nobody is left who could make room: whether it may fit after all, placed anew."""
        return False

    def _reclaim(self, bytes_: int) -> bool:
        """Ask others, unless all they hold would not do: then they would give it up for nothing."""
        return bytes_ <= self.charged_bytes and self.reclaim(bytes_) > 0

    def _evictable_bytes(self, spared: Collection[str]) -> int:
        freed = self.shares.freed_in_turn()
        return sum(
            freed(key) for key in self.slots if key not in spared and not self.slots.pins(key)
        )

    def admit(self, lease: Lease, group: Group, placed: Collection[str], now_s: float) -> None:
        """Give the lease its slots, pinned; room for those that were placed was made."""
        for key, request in group.items():
            slot = self.slots[key]
            counted, asked = slot.request.index, request.index
            assert counted.file_bytes == asked.file_bytes, f"{key}: a key names one file for ever"
            slot.request = request
            lease.slots[key] = slot
            if key not in placed:
                self.slots.pin(key)
            self.slots.touch(key)
            self.history.asked(key, now_s)
        self.leases.add(lease)

    def dismiss(self, lease: Lease, now_s: float) -> None:
        """Take the lease's pins and scratch back."""
        self.leases.remove(lease)
        for key, slot in lease.slots.items():
            self.slots.unpin(key)
            self.slots.touch(key)
            if lease.has_run:
                self.history.released(key, now_s)
            slot.released_at_s = now_s
            if self.slots.pins(key):
                continue
            if slot.weights is None:  # its load failed
                self._abandon(key)
            elif slot.request.keep_alive_s == 0:
                self.evict(key, now_s)
        lease.slots = {}

    def evict(self, key: str, now_s: float, is_pushed_out: bool = False) -> None:
        """Take a loaded, unpinned function's slot away; its bytes count until they are free."""
        slot = self.slots.pop(key)
        assert slot.weights is not None, f"{key} is evicted while it loads"
        self.evictions += 1
        self.history.evicted(key, now_s, is_pushed_out)
        slot.placement.retire()
        self._leaving += self.shares.drop(key)
        self.sweep()

    def _abandon(self, key: str) -> None:
        """Take away a slot whose weights never came."""
        self.slots.pop(key)
        self.shares.lose(key)
        self._leaving += self.shares.drop(key)

    def evict_idle(self, now_s: float) -> float | None:
        """Evict what is due; when the next is."""
        idle = [key for key in self.slots if not self.slots.pins(key)]
        dues = {key: due for key in idle if (due := self.slots[key].due_s) is not None}
        for key, due_s in dues.items():
            if due_s <= now_s:
                self.evict(key, now_s)
        return min((due_s for due_s in dues.values() if due_s > now_s), default=None)

    def sweep(self) -> None:
        """Free what was evicted, as far as nobody outside still holds a view of it."""
        if not self._leaving:
            return
        leaving, self._leaving = self._leaving, []
        for backing, spans in leaving:
            left = backing.free(spans)
            if left:
                self._leaving.append(Freed(backing, left))
            self._freed(backing, spans, left)

    def _freed(self, backing: Backing, spans: Sequence[int], left: Sequence[int]) -> None:
        """Of these spans all are free but those that are left."""

    def check_integrity(self) -> None:
        """Recount everything from the leases and slots; AssertionError says what differs."""
        self.slots.check_integrity()
        self.shares.check_integrity()
        held = Counter(key for lease in self.leases for key in lease.slots)
        for key in self.slots:
            slot, pins, counted = self.slots[key], self.slots.pins(key), self.slots.bytes_of(key)
            size = slot.placement.bytes
            assert size == counted, f"{key} takes {size} bytes, counted {counted}"
            assert held[key] == pins, f"{key} is in {held[key]} leases, pinned {pins} times"
            assert pins or slot.weights is not None, f"{key} is neither held nor loaded"
        missing = set(held) - set(self.slots)
        assert not missing, f"{missing} are leased and have no slot"
        assert self.charged_bytes >= 0, f"{self.charged_bytes} bytes charged"
        used = self.used_bytes
        assert used <= self.budget_bytes, f"{used} bytes used of {self.budget_bytes}"

    def _slot_bytes(self, request: SlotRequest) -> int:
        return (request.loader or self._loader).slot_bytes(request.index)

    def _kept(self) -> set[str]:
        return {key for key in self.slots if self.slots[key].request.is_kept}

    def _shortage_bytes(self, bytes_: int) -> int:
        shortage_bytes = self.used_bytes + bytes_ - self.budget_bytes
        free_bytes = self._loader.free_bytes()
        if free_bytes is None:
            return shortage_bytes
        # slots that wait for their load have a claim on the memory that is free now
        claimed_bytes = self.load_bytes(
            [key for key in self.slots if self.slots[key].weights is None]
        )
        # memory of captured graphs looks as if it could be used again, and is theirs
        return max(shortage_bytes, bytes_ + claimed_bytes + self.charged_bytes - free_bytes)
