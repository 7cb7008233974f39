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
        # what it is of
        self._pending: Pending | None = None
        self._costs: object = None
        self._moved = self._revision = 0

    def look(
        self,
        pending: Pending,
        forecast: Forecast,
        aside: Mapping[FunctionRef, int],
        touched: Iterable[FunctionRef],
    ) -> None:
        """What waits now but for `aside`, rows by function; of `touched` these have changed."""
        is_same = pending is self._pending and forecast.costs is self._costs
        moved = pending.moved.since(self._moved) if is_same else None
        revised = forecast.revised(self._revision) if is_same else None
        self._pending, self._costs = pending, forecast.costs
        self._moved, self._revision = pending.moved.count, forecast.revision
        if moved is None or revised is None:
            changed = {*self._refs, *pending.refs()}
        else:
            changed = {*moved, *touched, *(ref for ref in revised if ref in self._at)}
        for ref in changed:
            rows = pending.rows(ref) - aside.get(ref, 0) if ref in pending.functions else 0
            self._set(ref, batched_s(ref, rows, pending, forecast) if rows > 0 else 0.0)

    def others_s(self, ref: FunctionRef, most_s: float) -> float:
        """Of all functions but this one, each no more than so much."""
        seconds = self._seconds[: len(self._refs)]
        own = self._at.get(ref)
        own_s = 0.0 if own is None else min(float(seconds[own]), most_s)
        return float(np.minimum(seconds, most_s).sum()) - own_s

    def _set(self, ref: FunctionRef, seconds: float) -> None:
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
