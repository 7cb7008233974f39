"""The memory mark: a worker whose process has grown past it asks for its replacement, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from contract.log import Log
from workers.gauge import Gauge

log = Log("worker")
# What a worker takes when all is well is its start and its budget; the rest is left for what torch
# and the allocator keep for reuse.
DEFAULT_FACTOR = 1.5


@dataclass
class MemoryMark:
    """Compares the process's memory, as measured between runs, with a number of bytes."""

    gauge: Gauge
    budget_bytes: int
    # None: DEFAULT_FACTOR
    mark_bytes: int | None
    replace: Callable[[], None]
    _is_over: bool = False

    def look(self) -> None:
        """Ask to be replaced when the mark is passed."""
        if self._is_over or self.gauge.latest.process_bytes <= self._bytes():
            return
        self._is_over = True
        log.warning(
            "memory_mark_passed",
            process_bytes=self.gauge.latest.process_bytes,
            mark_bytes=self._bytes(),
        )
        if self.gauge.baseline_bytes > self._bytes():
            # its successor would ask as well, and so on for ever
            log.warning("memory_mark_useless", baseline_bytes=self.gauge.baseline_bytes)
        else:
            self.replace()

    def _bytes(self) -> int:
        if self.mark_bytes is not None:
            return self.mark_bytes
        return int(DEFAULT_FACTOR * (self.gauge.baseline_bytes + self.budget_bytes))
