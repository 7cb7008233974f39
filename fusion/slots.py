"""Device memory for many threads: a group's weights are loaded and pinned in one step.

A group gets all its slots or none, so two groups never hold what the other waits for. A thread
that holds a lease must not ask for another.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from fusion.device import Device
from fusion.errors import BudgetExceeded
from fusion.eviction import ORDERS
from fusion.history import Past
from fusion.leases import KEPT_S, Lease, SlotRequest, SlotStats
from fusion.loaders import (
    Loader,
    MappedLoader,
    ResidentWeights,
    SeatedLoader,
    SharingLoader,
)
from fusion.page_cache import HOST_SHARE
from fusion.residency import Group, Residency
from fusion.seating import SeatedResidency
from fusion.swapping.weights import ArrivingWeights

__all__ = ["KEPT_S", "Lease", "SlotRequest", "SlotStats", "SlotTable", "open_slots"]

Clock = Callable[[], float]

# of the budget, for weights on a GPU; the rest is for activations, DAGs and captured graphs
ARENA_SHARE = 0.7


class _LenderLost(Exception):
    """A function counted on tensors of another whose load then failed: it is to be placed anew."""


@dataclass(slots=True)
class _Counts:
    loads: int = 0
    failed_loads: int = 0
    loaded_bytes: int = 0
    load_s: float = 0.0


class SlotTable:
    """Slots of one device: leases by groups, eviction of what nobody holds, one budget.

    `clock` dates uses and loads; timeouts are in real time. `eviction` names the order in which
    functions leave, of `fusion.eviction.ORDERS`.
    """

    def __init__(
        self,
        loader: Loader,
        budget_bytes: int,
        clock: Clock = time.monotonic,
        eviction: str = "lru",
    ) -> None:
        self._loader = loader
        self._clock = clock
        self._changed = threading.Condition()  # guards all below; loads run outside it
        residency = SeatedResidency if isinstance(loader, SeatedLoader) else Residency
        self._memory = residency(loader, budget_bytes, ORDERS[eviction])
        self._turns: deque[object] = deque()
        self._verified: set[str] = set()
        self._counts = _Counts()

    @property
    def loader(self) -> Loader:
        """What brings weights to the device, where a request brings no loader of its own."""
        return self._loader

    def acquire(
        self,
        requests: Iterable[SlotRequest],
        scratch_bytes: int = 0,
        timeout_s: float | None = None,
    ) -> Lease:
        """Pin every requested function and reserve `scratch_bytes`, loading what is not resident.

        Waits, in order of arrival, while other leases hold the room. Raises BudgetExceeded when
        it can never fit, TimeoutError, and what a load raises; then nothing is held.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        group = {request.key: request for request in requests}
        while True:
            lease = self._admit(group, scratch_bytes, deadline_s)
            try:
                for key in lease.awaited():
                    self._ensure_loaded(lease, key, deadline_s)
            except _LenderLost:
                lease.has_run = False
                lease.release()
            except BaseException:
                lease.has_run = False
                lease.release()
                raise
            else:
                return lease

    def charge(self, bytes_: int) -> None:
        """Count `bytes_` held by others, evicting slots for them.

        Never waits, for the caller may hold a lease: raises BudgetExceeded when there is no room.
        """
        with self._changed:
            if not self._memory.make_room(bytes_, (), self._clock()):
                raise self._no_room(bytes_, "a charge")
            self._memory.charged_bytes += bytes_

    def refund(self, bytes_: int) -> None:
        """Undo `bytes_` of earlier charges."""
        with self._changed:
            charged_bytes = self._memory.charged_bytes
            assert 0 <= bytes_ <= charged_bytes, f"{bytes_} of {charged_bytes} bytes refunded"
            self._memory.charged_bytes -= bytes_
            self._changed.notify_all()

    def reclaim_from(self, reclaim: Callable[[int], int]) -> None:
        """Call `reclaim(bytes)` when slots alone cannot make room.

        It gives up what it can, refunds that, and returns the bytes. It is called under the table's
        lock: it must not hold a lock of its own while it refunds or charges.
        """
        self._memory.reclaim = reclaim

    def evict(self, key: str) -> bool:
        """Evict a function nobody holds, kept or not; False where it is held or not resident."""
        with self._changed:
            if key not in self._memory.slots or self._memory.slots.pins(key):
                return False
            self._memory.evict(key, self._clock())
            self._changed.notify_all()
            return True

    def room_bytes(self, request: SlotRequest) -> int:
        """The most that this function could ever get alone: what others keep stays."""
        with self._changed:
            return self._memory.room_bytes(request)

    def forget(self, key: str) -> None:
        """A function that is not resident will not come back, or as another file."""
        with self._changed:
            self._verified.discard(key)
            self._memory.history.forget(key)

    def evict_idle(self, now_s: float) -> float | None:
        """Evict what has been idle for its keep-alive; when to call again, by the table's clock."""
        with self._changed:
            self._memory.sweep()
            due_s = self._memory.evict_idle(now_s)
            self._changed.notify_all()
            return due_s

    def stats(self) -> SlotStats:
        """What is held now, and counts."""
        with self._changed:
            slots = self._memory.slots
            return SlotStats(
                budget_bytes=self._memory.budget_bytes,
                resident_bytes=self._memory.shares.bytes,
                shared_bytes=self._memory.shares.shared_bytes,
                pinned_bytes=self._memory.pinned_bytes,
                scratch_bytes=self._memory.scratch_bytes,
                charged_bytes=self._memory.charged_bytes,
                leaving_bytes=self._memory.leaving_bytes,
                resident=tuple(key for key in slots if slots[key].weights is not None),
                leases=len(self._memory.leases),
                waiting=len(self._turns),
                loads=self._counts.loads,
                failed_loads=self._counts.failed_loads,
                evictions=self._memory.evictions,
                loaded_bytes=self._counts.loaded_bytes,
                load_s=self._counts.load_s,
                thrash=self._memory.history.thrash,
                pinned=tuple(key for key in slots if slots.pins(key)),
            )

    def pasts(self, count: int) -> dict[str, Past]:
        """What became of the functions that were last asked for, the last of them last."""
        with self._changed:
            return self._memory.history.newest(count)

    def host_shares(self, files: Mapping[str, Path]) -> dict[str, float]:
        """Shares of weights files that are in host memory, by the keys given."""
        return {key: self._loader.host_share(path) for key, path in files.items()}

    def now_s(self) -> float:
        """The moment by the table's clock."""
        return self._clock()

    def check_integrity(self) -> None:
        """Recount everything from the leases and slots; AssertionError says what differs."""
        with self._changed:
            self._memory.check_integrity()

    def _admit(self, group: Group, scratch_bytes: int, deadline_s: float | None) -> Lease:
        """Reserve the group's bytes and pin its slots once there is room.

        First come, first served: a large group would starve if small ones could pass it, and the
        scheduler has put the groups in order of urgency already.
        """
        lease = Lease({}, scratch_bytes, self._give_back)
        turn = object()
        with self._changed:
            self._turns.append(turn)
            try:
                while not self._try_admit(lease, group, turn):
                    self._wait(deadline_s, group)
            finally:
                self._turns.remove(turn)
                self._changed.notify_all()
        return lease

    def _try_admit(self, lease: Lease, group: Group, turn: object) -> bool:
        self._memory.refuse_impossible(group, lease.scratch_bytes)
        if self._turns[0] is not turn or self._memory.is_lost(group):
            return False
        placed = self._memory.place(group)
        if not self._memory.make_room(lease.scratch_bytes, group.keys(), self._clock()):
            needed_bytes = self._memory.load_bytes(placed) + lease.scratch_bytes
            self._memory.withdraw(placed)
            if self._memory.leases:
                return False
            # nobody is left who could release anything
            if self._memory.start_over(group, self._clock()):
                return self._try_admit(lease, group, turn)
            raise self._no_room(needed_bytes, ", ".join(group) or "scratch")
        self._memory.admit(lease, group, placed, self._clock())
        return True

    def _ensure_loaded(self, lease: Lease, key: str, deadline_s: float | None) -> None:
        """Load the slot, or wait for the lease that does; after a failure there, load it here."""
        slot = lease.slots[key]
        with self._changed:
            while slot.weights is None and (slot.is_loading or slot.placement.is_waiting):
                if slot.placement.is_lost:
                    raise _LenderLost
                self._wait(deadline_s, [key])
            if slot.weights is not None:
                return
            slot.is_loading = True
            is_verified = slot.request.is_verified or key in self._verified
            lent = slot.placement.borrowed()
            address = slot.placement.backing.address
        loader = slot.request.loader or self._loader
        was_on_disk = False
        began_s = self._clock()
        weights: ResidentWeights | None = None
        try:
            was_on_disk = loader.host_share(slot.request.path) < HOST_SHARE
            weights = _load(loader, slot.request, is_verified, lent, address)
        finally:
            del lent
            with self._changed:
                load_s = self._clock() - began_s
                if weights is not None:
                    self._memory.history.loaded(
                        key, load_s, began_s + load_s, was_on_disk, is_verified
                    )
                self._note_load(lease, key, weights, load_s, was_on_disk)

    def _note_load(
        self,
        lease: Lease,
        key: str,
        weights: ResidentWeights | None,
        load_s: float,
        was_on_disk: bool,
    ) -> None:
        slot = lease.slots[key]
        slot.is_loading = False
        slot.weights = slot.placement.backing.weights = weights
        self._changed.notify_all()
        if weights is None:
            self._counts.failed_loads += 1
            return
        if not slot.placement.lent:  # else a part of its file was not looked at
            self._verified.add(key)
        loaded_bytes = slot.placement.loaded_bytes(slot.request.index)
        lease.cold.add(key)
        lease.loaded_bytes += loaded_bytes
        lease.load_s += load_s
        if was_on_disk:
            lease.disk_bytes += loaded_bytes
            lease.disk_s += load_s
        self._counts.loads += 1
        self._counts.loaded_bytes += loaded_bytes
        self._counts.load_s += load_s

    def _give_back(self, lease: Lease) -> None:
        with self._changed:
            if lease.is_released:
                return
            lease.is_released = True
            try:
                for weights in lease.resident():
                    weights.mark_used()
                self._note_copies(lease)
            finally:
                self._memory.dismiss(lease, self._clock())
                self._memory.sweep()
                self._changed.notify_all()

    def _note_copies(self, lease: Lease) -> None:
        """What copies to the device took is known once they are done."""
        for key, slot in lease.slots.items():
            if isinstance(slot.weights, ArrivingWeights):
                copy_s = slot.weights.take_copy_s()
                if copy_s is not None:
                    self._memory.history.arrived(key, copy_s)

    def _no_room(self, bytes_: int, what: str) -> BudgetExceeded:
        what = f"{what} beside what cannot be evicted"
        return BudgetExceeded(bytes_, self._memory.available_bytes, what)

    def _wait(self, deadline_s: float | None, what: Iterable[str]) -> None:
        left_s = None if deadline_s is None else deadline_s - time.monotonic()
        if (left_s is not None and left_s <= 0) or not self._changed.wait(left_s):
            raise TimeoutError(f"no room for {', '.join(what)} in time")


def _load(
    loader: Loader,
    request: SlotRequest,
    is_verified: bool,
    lent: Mapping[int, Tensor],
    address: int | None,
) -> ResidentWeights:
    if address is not None:
        seated = cast(SeatedLoader, loader)  # none other is given a place
        return seated.load_at(request.path, request.index, is_verified, lent, address)
    if not lent:
        return loader.load(request.path, request.index, is_verified)
    sharing = cast(SharingLoader, loader)  # none other is lent anything
    return sharing.load_rest(request.path, request.index, is_verified, lent)


def open_slots(
    device: Device,
    budget_bytes: int,
    clock: Clock = time.monotonic,
    host_budget_bytes: int = 0,
    eviction: str = "lru",
) -> SlotTable:
    """The slot table of `device`; `host_budget_bytes` is for pinned copies, on CUDA alone."""
    if device.kind == "cpu":
        return SlotTable(MappedLoader(), budget_bytes, clock, eviction)
    # a CPU worker has no use for them
    from fusion.swapping.cuda import CudaCopies
    from fusion.swapping.loader import ArenaLoader

    copies = CudaCopies(device.ordinal)
    loader = ArenaLoader(copies, int(budget_bytes * ARENA_SHARE), host_budget_bytes)
    return SlotTable(loader, budget_bytes, clock, eviction)
