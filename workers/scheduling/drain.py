"""How fast the queue drains: jobs settled per second, over times when more were waiting.

What settles while nothing waits says how many jobs come, not how many could be run; such times do
not count, and where there is nothing else there is no rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Of all functions together.
ALL = ""
WINDOW_S = 5.0
# Of a shorter time, or of fewer jobs, a rate is chance.
MIN_SPAN_S = 0.9
MIN_JOBS = 5


class _Sample(NamedTuple):
    at_s: float
    # jobs settled ever, by function
    settled: Mapping[str, int]


@dataclass
class Drain:
    """The counts of the last seconds."""

    _samples: deque[_Sample] = field(default_factory=deque)

    def rates(
        self, now_s: float, settled: Mapping[str, int], waiting_since_s: Mapping[str, float]
    ) -> dict[str, float]:
        """Jobs settled per second of every function of which some have waited all the time.

        `settled`: jobs settled ever; `waiting_since_s`: since when jobs wait without a break.
        """
        self._samples.append(_Sample(now_s, dict(settled)))
        while self._samples[0].at_s < now_s - WINDOW_S:
            self._samples.popleft()
        found = {name: self._rate(name, since_s) for name, since_s in waiting_since_s.items()}
        return {name: rate for name, rate in found.items() if rate is not None}

    def _rate(self, name: str, since_s: float) -> float | None:
        counts = [
            (sample.at_s, sample.settled.get(name, 0))
            for sample in self._samples
            if sample.at_s >= since_s
        ]
        # before the first of them settled, weights may have been on their way
        moving = [at for at in counts if at[1] > counts[0][1]]
        if not moving:
            return None
        first_s, before = counts[-len(moving) - 1]
        last_s, after = counts[-1]
        if last_s - first_s < MIN_SPAN_S or after - before < MIN_JOBS:
            return None
        return (after - before) / (last_s - first_s)
