"""What is in a device's memory, and what must leave so that more fits.

What counts: weights in slots, from before they arrive until their memory is free again, scratch
that leases reserve for activations, and what others charge. The sum never exceeds the budget.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping

from fusion.errors import BudgetExceeded
from fusion.leases import Lease, Slot, SlotRequest
from fusion.loaders import Loader, ResidentWeights
from fusion.lru import ByteLru

Group = Mapping[str, SlotRequest]

# of the budget; with less left to swap in, every other function would wait for one slot
KEPT_SHARE = 0.75


class Residency:
    """Slots and leases of one device, and the eviction policy. SlotTable lends it its lock."""

    def __init__(self, loader: Loader, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.slots: ByteLru[str, Slot] = ByteLru()
        self.leases: set[Lease] = set()
        self.charged_bytes = 0
        self.evictions = 0
        self.reclaim: Callable[[int], int] = lambda _: 0  # asks others for bytes
        self._loader = loader
        self._leaving: list[tuple[ResidentWeights, int]] = []

    @property
    def scratch_bytes(self) -> int:
        """Reserved for activations."""
        return sum(lease.scratch_bytes for lease in self.leases)

    @property
    def leaving_bytes(self) -> int:
        """Evicted, and still taken because a view is held somewhere."""
        return sum(size for _, size in self._leaving)

    @property
    def used_bytes(self) -> int:
        """Everything that counts in the budget."""
        return self.slots.bytes + self.scratch_bytes + self.charged_bytes + self.leaving_bytes

    @property
    def available_bytes(self) -> int:
        """What would be free if everything that may be evicted were."""
        return self._evictable_bytes(self._kept()) - self._shortage_bytes(0)

    def refuse_impossible(self, group: Group, scratch_bytes: int) -> None:
        """Raise BudgetExceeded for what no eviction can make fit."""
        slot_bytes = {key: self._slot_bytes(r) for key, r in group.items()}
        kept_bytes = sum(self.slots.bytes_of(key) for key in self._kept() - group.keys())
        needed_bytes = sum(slot_bytes.values()) + scratch_bytes
        what = ", ".join(group) or "scratch"
        if needed_bytes > self.budget_bytes - kept_bytes:
            beside = " beside functions with keep_alive_s -1" if kept_bytes else ""
            raise BudgetExceeded(needed_bytes, self.budget_bytes - kept_bytes, what + beside)
        new_kept_bytes = sum(slot_bytes[key] for key, r in group.items() if r.is_kept)
        limit_bytes = int(self.budget_bytes * KEPT_SHARE)
        if new_kept_bytes and kept_bytes + new_kept_bytes > limit_bytes:
            what = f"keeping every function with keep_alive_s -1 ({what})"
            raise BudgetExceeded(kept_bytes + new_kept_bytes, limit_bytes, what)

    def room_bytes(self, request: SlotRequest) -> int:
        """The most that this function could ever get alone: what others keep stays."""
        kept_bytes = sum(self.slots.bytes_of(key) for key in self._kept() - {request.key})
        share = KEPT_SHARE if request.is_kept else 1.0
        return int(self.budget_bytes * share) - kept_bytes

    def missing_bytes(self, group: Group) -> int:
        """Bytes of the group's functions that have no slot."""
        return sum(
            self._slot_bytes(request) for key, request in group.items() if key not in self.slots
        )

    def make_room(self, bytes_: int, spare: Collection[str]) -> bool:
        """Evict until `bytes_` fit, sparing what the group itself needs; False where they cannot.

        Measured again after each round: bytes freed are not always bytes to be had.
        """
        self.sweep()
        spared = self._kept().union(spare)
        while (shortage_bytes := self._shortage_bytes(bytes_)) > 0:
            victims = self.slots.victims(shortage_bytes, spared)
            for key in victims:
                self.evict(key)
            if not victims and not self._reclaim(shortage_bytes - self._evictable_bytes(spared)):
                return False
        return True

    def _reclaim(self, bytes_: int) -> bool:
        """Ask others, unless all they hold would not do: then they would give it up for nothing."""
        return bytes_ <= self.charged_bytes and self.reclaim(bytes_) > 0

    def _evictable_bytes(self, spared: Collection[str]) -> int:
        return sum(
            self.slots.bytes_of(key)
            for key in self.slots
            if key not in spared and not self.slots.pins(key)
        )

    def admit(self, lease: Lease, group: Group) -> None:
        """Give the lease its slots, pinned; room for them was made."""
        for key, request in group.items():
            if key not in self.slots:
                self.slots.put(key, Slot(request), self._slot_bytes(request))
            slot = self.slots[key]
            counted, asked = slot.request.index, request.index
            assert counted.file_bytes == asked.file_bytes, f"{key}: a key names one file for ever"
            slot.request = request
            lease.slots[key] = slot
            self.slots.pin(key)
            self.slots.touch(key)
        self.leases.add(lease)

    def dismiss(self, lease: Lease, now_s: float) -> None:
        """Take the lease's pins and scratch back."""
        self.leases.remove(lease)
        for key, slot in lease.slots.items():
            self.slots.unpin(key)
            self.slots.touch(key)
            slot.released_at_s = now_s
            if self.slots.pins(key):
                continue
            if slot.weights is None:  # its load failed
                self.slots.pop(key)
            elif slot.request.keep_alive_s == 0:
                self.evict(key)
        lease.slots = {}

    def evict(self, key: str) -> None:
        """Take a loaded, unpinned function's slot away; its bytes count until they are free."""
        size = self.slots.bytes_of(key)
        weights = self.slots.pop(key).weights
        assert weights is not None, f"{key} is evicted while it loads"
        self.evictions += 1
        self._leaving.append((weights, size))
        self.sweep()

    def evict_idle(self, now_s: float) -> float | None:
        """Evict what is due; when the next is."""
        idle = [key for key in self.slots if not self.slots.pins(key)]
        dues = {key: due for key in idle if (due := self.slots[key].due_s) is not None}
        for key, due_s in dues.items():
            if due_s <= now_s:
                self.evict(key)
        return min((due_s for due_s in dues.values() if due_s > now_s), default=None)

    def sweep(self) -> None:
        """Free what was evicted, as far as nobody outside still holds a view of it."""
        self._leaving = [(weights, size) for weights, size in self._leaving if not weights.close()]

    def check_integrity(self) -> None:
        """Recount everything from the leases and slots; AssertionError says what differs."""
        self.slots.check_integrity()
        held = Counter(key for lease in self.leases for key in lease.slots)
        for key in self.slots:
            slot, pins, counted = self.slots[key], self.slots.pins(key), self.slots.bytes_of(key)
            size = self._slot_bytes(slot.request)
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
        claimed_bytes = sum(
            self.slots.bytes_of(key) for key in self.slots if self.slots[key].weights is None
        )
        # memory of captured graphs looks as if it could be used again, and is theirs
        return max(shortage_bytes, bytes_ + claimed_bytes + self.charged_bytes - free_bytes)
