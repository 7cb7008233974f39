"""Fair shares: the device seconds that each function has had, levelled for those that were idle.

Start-time fair queueing (Goyal, Vin, Cheng, 1996): what a function has had is its virtual time, and
one that begins to wait starts no lower than those that wait already, so that nobody saves time up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Shares:
    """Virtual time of every function, device seconds."""

    used_s: dict[str, float] = field(default_factory=dict)

    def enter(self, name: str, waiting: Iterable[str]) -> None:
        """A function begins to wait, beside these that wait already."""
        others = [self.used_s.get(other, 0.0) for other in waiting]
        level_s = min(others) if others else max(self.used_s.values(), default=0.0)
        self.used_s[name] = max(self.used_s.get(name, 0.0), level_s)

    def charge(self, name: str, device_s: float) -> None:
        """A function has computed for so long."""
        self.used_s[name] = self.used_s.get(name, 0.0) + device_s
