"""What a worker holds against what its process takes, read at moments when both can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from fusion.memory import process_resident_bytes
from fusion.slots import SlotStats
from workers.memory import give_back


class Footprint(NamedTuple):
    """Slots and process of one moment at which no run had activations."""

    slots: SlotStats
    process_bytes: int


class Gauge:
    """Measures between runs: inside one, the process also holds activations that come and go."""

    def __init__(self, stats: Callable[[], SlotStats], interval_s: float) -> None:
        self._stats = stats
        self._interval_s = interval_s
        self._measured_at_s = 0.0
        self.latest = self.measure()
        # taken anew by `set_baseline` once everything is set up
        self.baseline_bytes = self.latest.process_bytes

    def measure(self) -> Footprint:
        """Give freed memory back and measure; about a millisecond."""
        give_back()
        self._measured_at_s = time.monotonic()
        self.latest = Footprint(self._stats(), process_resident_bytes())
        return self.latest

    def measure_if_due(self) -> None:
        """Measure unless that was done a moment ago: a busy worker has few moments between runs."""
        if time.monotonic() - self._measured_at_s >= self._interval_s:
            self.measure()

    def set_baseline(self) -> None:
        """What the process takes from here on is for functions."""
        self.baseline_bytes = self.measure().process_bytes
