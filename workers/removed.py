"""Removed functions leave their worker: no call comes for them, yet LRU may keep them for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contract.errors import StoreUnavailable
from contract.function import FunctionRef
from contract.store.functions import Functions
from fusion.slots import SlotTable
from workers.library import Library


@dataclass
class Removed:
    """Gives up what is no longer deployed; one round trip every `interval_s`."""

    functions: Functions
    slots: SlotTable
    library: Library
    interval_s: float
    # each empties something that is kept of versions, those of removed ones among them
    forget: Sequence[Callable[[], None]]
    clock: Callable[[], float] = time.monotonic
    _due_at_s: float = 0.0

    def evict(self) -> None:
        """Look and evict, when it is due; slots in use are tried again the next time."""
        if self.clock() < self._due_at_s:
            return
        self._due_at_s = self.clock() + self.interval_s
        known = [FunctionRef.parse(key) for key in self.library.known()]
        try:
            removed = self.functions.removed(known)
        except StoreUnavailable:
            return
        for key in map(str, removed):
            if key not in self.slots.stats().resident or self.slots.evict(key):
                self.library.forget(key)
                self.slots.forget(key)
        if removed:
            for forget in self.forget:
                forget()
