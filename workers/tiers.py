"""Where the weights of this worker's functions are, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from contract.store.workers import FunctionMemory
from fusion.history import Past
from fusion.page_cache import HOST_SHARE
from fusion.slots import SlotTable
from workers.library import Library

DEVICE, HOST, DISK = "device", "host", "disk"
# functions in a report: the last asked for
REPORTED = 128
# files looked at between two heartbeats: some 200 microseconds each
AT_A_TIME = 16


class Tiers:
    """Tells where functions are; host memory is looked at a few files at a time."""

    def __init__(
        self, slots: SlotTable, library: Library, clock: Callable[[], float] = time.time
    ) -> None:
        self._slots = slots
        self._library = library
        self._clock = clock
        self._shares: dict[str, float] = {}
        self._unseen: list[str] = []

    def look(self) -> None:
        """Look at the next files; all of them in turn."""
        if not self._unseen:
            self._unseen = [*self._slots.pasts(REPORTED)]
            # what is no longer reported is not kept either
            self._shares = {key: self._shares.get(key, 0.0) for key in self._unseen}
        keys = [self._unseen.pop() for _ in range(min(AT_A_TIME, len(self._unseen)))]
        self._shares |= self._slots.host_shares(self._library.weights_files(keys))

    def memory(self, resident: dict[str, int]) -> dict[str, FunctionMemory]:
        """By slot key; `resident` are bytes of those in slots."""
        pasts = self._slots.pasts(REPORTED)
        files = self._library.weights_files(pasts)
        sizes = self._library.file_bytes(files)
        to_unix_s = self._clock() - self._slots.now_s()
        return {
            key: self._of(key, past, sizes[key], resident.get(key, 0), to_unix_s)
            for key, past in pasts.items()
            if key in sizes
        }

    def _of(
        self, key: str, past: Past, size: int, device_bytes: int, to_unix_s: float
    ) -> FunctionMemory:
        share = self._shares.get(key, 0.0)
        tier = DEVICE if device_bytes else HOST if share >= HOST_SHARE else DISK
        return FunctionMemory(
            tier=tier,
            device_bytes=device_bytes,
            host_bytes=int(share * size),
            loads=past.loads,
            load_s=past.load_s,
            disk_loads=past.disk_loads,
            disk_load_s=past.disk_load_s,
            evictions=past.evictions,
            thrash=past.thrash,
            idle_s=past.idle_s,
            stayed_s=past.stayed_s,
            last_idle_s=past.last_idle_s,
            last_stayed_s=past.last_stayed_s,
            used_at_s=None if past.used_at_s is None else past.used_at_s + to_unix_s,
        )
