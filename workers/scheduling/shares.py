"""Fair shares: the device seconds that each function has had, levelled for those that were idle.

Start-time fair queueing (Goyal, Vin, Cheng, 1996): what a function has had is its virtual time, and
one that begins to wait starts no lower than those that wait already, so that nobody saves time up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace

# entries of functions that wait no longer
SLACK = 64


@dataclass
class Shares:
    """Virtual time of every function, device seconds."""

    used_s: dict[str, float] = field(default_factory=dict)
    # functions that have had more since this was emptied
    charged: set[str] = field(default_factory=set)
    _waiting: set[str] = field(default_factory=set)
    # of each that waits what it has had, or had before
    _least: list[tuple[float, str]] = field(default_factory=list)

    def enter(self, name: str) -> None:
        """A function begins to wait."""
        level_s = self._level_s()
        self.used_s[name] = max(self.used_s.get(name, 0.0), level_s)
        self._waiting.add(name)
        heappush(self._least, (self.used_s[name], name))
        if len(self._least) > 2 * len(self._waiting) + SLACK:
            # what left and came again is in it several times
            self._least = [(self.used_s.get(its, 0.0), its) for its in self._waiting]
            heapify(self._least)

    def leave(self, name: str) -> None:
        """It waits no longer."""
        self._waiting.discard(name)

    def charge(self, name: str, device_s: float) -> None:
        """A function has computed for so long."""
        self.used_s[name] = self.used_s.get(name, 0.0) + device_s
        self.charged.add(name)

    def forget(self, name: str) -> None:
        """A function is gone."""
        self.used_s.pop(name, None)
        self.charged.add(name)
        if name in self._waiting:
            heappush(self._least, (0.0, name))

    def _level_s(self) -> float:
        """What the least served of those that wait has had; where none does, the most served."""
        heap = self._least
        while heap:
            had_s, name = heap[0]
            now_s = self.used_s.get(name, 0.0)
            if name not in self._waiting:
                heappop(heap)
            elif had_s < now_s:
                heapreplace(heap, (now_s, name))
            else:
                return now_s
        return max(self.used_s.values(), default=0.0)
