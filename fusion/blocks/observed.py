"""What runs in blocks take: steps, and reading beside them; times that a plan can be made of."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple


class Observed(NamedTuple):
    """One run."""

    run_s: float
    # computing alone, without what each waited for
    step_s: tuple[float, ...]
    # not found in the page cache since the run before, and for how long any of it was being read
    read_bytes: int
    read_s: float


class Measured(NamedTuple):
    """Several runs of one cut graph."""

    step_s: tuple[float, ...]
    read_bytes_per_s: float
    # False: a plan made by it was slower than the one made by estimates
    is_better: bool = True

    def encode(self) -> dict[str, Any]:
        """JSON; seconds to a tenth of a microsecond."""
        return self._asdict() | {"step_s": [round(s, 7) for s in self.step_s]}

    @classmethod
    def decode(cls, record: Mapping[str, Any]) -> Measured:
        """What `encode` made; raises ValueError, KeyError or TypeError."""
        step_s = tuple(map(float, record["step_s"]))
        return cls(step_s, float(record["read_bytes_per_s"]), bool(record["is_better"]))


def measured(runs: Sequence[Observed]) -> Measured:
    """Medians of the steps; the rate at which all of it was read."""
    step_s = tuple(median(times) for times in zip(*(run.step_s for run in runs), strict=True))
    read_s = sum(run.read_s for run in runs)
    return Measured(step_s, sum(run.read_bytes for run in runs) / read_s)


class ReadMeter:
    """Bytes read, and for how long at least one thread was reading; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = 0
        self._since_s = self._read_s = 0.0
        self._bytes = 0

    @contextmanager
    def reading(self, bytes_: int) -> Iterator[None]:
        """Around one read."""
        with self._lock:
            if not self._under_way:
                self._since_s = perf_counter()
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._bytes += bytes_
                if not self._under_way:
                    self._read_s += perf_counter() - self._since_s

    def take(self) -> tuple[int, float]:
        """Bytes and seconds since this was last called."""
        with self._lock:
            now_s = perf_counter()
            if self._under_way:
                self._read_s += now_s - self._since_s
                self._since_s = now_s
            found = self._bytes, self._read_s
            self._bytes, self._read_s = 0, 0.0
            return found
