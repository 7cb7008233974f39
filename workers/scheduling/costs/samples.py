"""The newest measurements of one thing, and their quantiles."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# Measurements kept: enough for a median that outliers do not move, few enough to follow a change.
KEPT = 40
# The way of the next run is taken to be the one of most of the latest runs.
LATEST = 8


class Sample(NamedTuple):
    """One measurement."""

    # how it ran: a strategy or a tier
    way: str
    # rows, bytes or members
    x: int
    # seconds, or a ratio of seconds
    value: float


class Recent:
    """A ring of the newest samples. Ways are kept apart: another way's times say little."""

    __slots__ = ("_likely", "_median", "samples")

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self.samples = deque(samples, maxlen=KEPT)
        # asked more often than anything is added
        self._likely: list[Sample] | None = None
        self._median: float | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def add(self, way: str, x: int, value: float) -> None:
        """Take in a measurement; the oldest goes."""
        self.samples.append(Sample(way, x, value))
        self._likely = self._median = None

    def likely(self) -> Sequence[Sample]:
        """The samples of the way that ran most of late; of two equal ones the later."""
        if self._likely is None:
            latest = [sample.way for sample in self.samples][: -LATEST - 1 : -1]
            way = Counter(latest).most_common(1)[0][0]
            self._likely = [sample for sample in self.samples if sample.way == way]
        return self._likely

    def median(self) -> float:
        """Of the likely way's values; raises IndexError where there are none."""
        if self._median is None:
            self._median = quantile_of([sample.value for sample in self.likely()], 0.5)
        return self._median

    def as_list(self) -> list[Any]:
        """Plain values, for `of`."""
        return [list(sample) for sample in self.samples]

    @classmethod
    def of(cls, record: Sequence[Any]) -> Recent:
        """The ring of `as_list`."""
        return cls(Sample(str(way), int(x), float(value)) for way, x, value in record)


def quantile_of(values: Iterable[float], share: float) -> float:
    """The value that this share of the values is at most; linear between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    # not a sum of weighted terms: that may leave the interval by rounding
    return min(ordered[low] + (ordered[high] - ordered[low]) * (place - low), ordered[high])
