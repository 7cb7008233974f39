"""Device time of all jobs that wait in turn, by function, in a column: added up without Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from contract.function import FunctionRef
from workers.scheduling.forecast import Forecast
from workers.scheduling.heads import Floats
from workers.scheduling.pending import Pending

_LEAST_ROWS = 64


class Ahead:
    """Kept between decisions: a function is looked at anew when its jobs or its times change."""

    def __init__(self) -> None:
        self._refs: list[FunctionRef] = []
        self._at: dict[FunctionRef, int] = {}
        self._seconds: Floats = np.zeros(_LEAST_ROWS)
        # by the most that counts of each, until one changes
        self._totals_s: dict[float, float] = {}
        # what it is of
        self._pending: Pending | None = None
        self._costs: object = None
        self._moved = self._revision = 0

    def look(self, pending: Pending, forecast: Forecast, aside: Mapping[FunctionRef, int]) -> None:
        """What waits now but for `aside`, rows by function."""
        is_same = pending is self._pending and forecast.costs is self._costs
        moved = pending.moved.since(self._moved) if is_same else None
        revised = forecast.revised(self._revision) if is_same else None
        self._pending, self._costs = pending, forecast.costs
        self._moved, self._revision = pending.moved.count, forecast.revision
        if moved is None or revised is None:
            changed = {*self._refs, *pending.refs()}
        else:
            changed = {*moved, *(ref for ref in revised if ref in self._at)}
        self.look_again(changed, pending, forecast, aside)

    def look_again(
        self,
        refs: Iterable[FunctionRef],
        pending: Pending,
        forecast: Forecast,
        aside: Mapping[FunctionRef, int],
    ) -> None:
        """More or less of these functions is set aside."""
        for ref in refs:
            rows = pending.rows(ref) - aside.get(ref, 0) if ref in pending.functions else 0
            self._set(ref, batched_s(ref, rows, pending, forecast) if rows > 0 else 0.0)

    def others_s(self, ref: FunctionRef, most_s: float) -> float:
        """Of all functions but this one, each no more than so much."""
        total_s = self._totals_s.get(most_s)
        if total_s is None:
            seconds = self._seconds[: len(self._refs)]
            total_s = self._totals_s[most_s] = float(np.minimum(seconds, most_s).sum())
        own = self._at.get(ref)
        return total_s if own is None else total_s - min(float(self._seconds[own]), most_s)

    def _set(self, ref: FunctionRef, seconds: float) -> None:
        self._totals_s.clear()
        at = self._at.get(ref)
        if seconds > 0:
            if at is None:
                at = self._at[ref] = len(self._refs)
                self._refs.append(ref)
                if at == len(self._seconds):
                    self._seconds = np.concatenate((self._seconds, np.zeros(at)))
            self._seconds[at] = seconds
        elif at is not None:
            last = self._refs.pop()
            del self._at[ref]
            if last != ref:
                self._refs[at], self._at[last] = last, at
                self._seconds[at] = self._seconds[len(self._refs)]


def batched_s(ref: FunctionRef, rows: int, pending: Pending, forecast: Forecast) -> float:
    """Device time of so many rows of a function, in batches as large as may be."""
    most = pending.functions[ref].max_batch
    if rows <= most:
        return forecast.compute_s(ref, rows)
    return forecast.compute_s(ref, most) * rows / most
