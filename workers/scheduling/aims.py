"""The tightest latency that any function of which jobs came lately aims at, in O(1)."""

from __future__ import annotations

from math import inf

# A function of which no job came for longer than this, twice at most, holds nobody back.
PERIOD_S = 5.0


class Aims:
    """A minimum over a sliding window, kept as those of two periods."""

    __slots__ = ("_least_s", "_period", "_previous_s")

    def __init__(self) -> None:
        self._period = 0
        self._least_s = self._previous_s = inf

    def note(self, accepted_at_s: float, aim_s: float) -> None:
        """A job came then, due after so long."""
        self._turn_to(accepted_at_s)
        self._least_s = min(self._least_s, aim_s)

    def tightest_s(self, now_s: float) -> float:
        """The shortest aim of this and the last period; infinite where no job came."""
        self._turn_to(now_s)
        return min(self._least_s, self._previous_s)

    def _turn_to(self, at_s: float) -> None:
        period = int(at_s // PERIOD_S)
        # jobs that are queued again were accepted before
        if period <= self._period:
            return
        self._previous_s = self._least_s if period == self._period + 1 else inf
        self._least_s = inf
        self._period = period
