"""Time as a function of size: quantiles of recent runs where there were any, a line elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workers.scheduling.costs.lines import Line, Point, fit
from workers.scheduling.costs.samples import Recent, quantile_of

# Sizes are kept by powers of two; of more than these the least lately seen go.
BUCKETS = 24
# Predictions remembered until the next measurement.
CACHED = 1024


def bucket_of(x: int) -> int:
    """The power of two from `x` on."""
    return 1 << max(0, x - 1).bit_length()


class Curve:
    """Learned online; a prediction that was asked for before costs one look-up.

    `fixed_share` of the time of a size is taken not to grow with it, until a second size was seen
    or where no `shape` tells.
    """

    def __init__(self, fixed_share: float = 0.5, shape: Line | None = None) -> None:
        self._fixed_share = fixed_share
        self._shape = shape
        # by bucket, the last learned last
        self._recent: dict[int, Recent] = {}
        # the medians of each bucket, until it is learned again
        self._points: dict[int, Point] = {}
        self._line: Line | None = None
        # by bucket and quantile, how far from the line its runs are; until the next measurement
        self._factors: dict[tuple[int, float], float] = {}

    @property
    def is_seen(self) -> bool:
        """Whether anything was measured."""
        return bool(self._recent)

    @property
    def runs(self) -> int:
        """Measurements that are kept."""
        return sum(map(len, self._recent.values()))

    def has(self, x: int) -> bool:
        """Whether its bucket was measured."""
        return bucket_of(x) in self._recent

    def set_shape(self, shape: Line | None) -> None:
        """How time grows, where one size alone was seen."""
        self._shape = shape
        self._changed()

    def learn(self, x: int, seconds: float, way: str = "") -> None:
        """Take in a measurement."""
        bucket = bucket_of(x)
        recent = self._recent.pop(bucket, None) or Recent()
        recent.add(way, x, seconds)
        self._recent[bucket] = recent
        self._points.pop(bucket, None)
        if len(self._recent) > BUCKETS:
            gone = next(iter(self._recent))
            del self._recent[gone]
            self._points.pop(gone, None)
        self._changed()

    def predict_s(self, x: int, quantile: float = 0.5) -> float:
        """Seconds that this share of runs of this size take at most; something must be seen."""
        key = (bucket_of(x), quantile)
        factor = self._factors.get(key)
        if factor is None:
            if len(self._factors) >= CACHED:
                self._factors.clear()
            factor = self._factors[key] = self._factor(*key)
        return self.prior_s(x) * factor

    def prior_s(self, x: int) -> float:
        """The line through the medians of what was seen."""
        return self._prior().at(x)

    def as_list(self) -> list[Any]:
        """Plain values, for `read`."""
        return [[bucket, recent.as_list()] for bucket, recent in self._recent.items()]

    def read(self, record: Sequence[Any]) -> Curve:
        """Take on what `as_list` gave."""
        self._recent = {int(bucket): Recent.of(samples) for bucket, samples in record}
        self._points.clear()
        self._changed()
        return self

    def _prior(self) -> Line:
        if self._line is None:
            self._line = self._fit()
        return self._line

    def _factor(self, bucket: int, quantile: float) -> float:
        """On the time by the line."""
        recent = self._recent.get(bucket)
        if recent is not None:
            # computed here, not asked of the line: every measurement has all of it done again
            base_s, slope_s = self._prior()
            ratios = [_ratio(s.value, base_s + s.x * slope_s) for s in recent.likely()]
            return quantile_of(ratios, quantile)
        # how far runs spread is taken from the size that is nearest
        length = bucket.bit_length()
        nearest = min(self._recent, key=lambda other: abs(other.bit_length() - length))
        values = [s.value for s in self._recent[nearest].likely()]
        return _ratio(quantile_of(values, quantile), quantile_of(values, 0.5))

    def _point(self, bucket: int) -> Point:
        found = self._points.get(bucket)
        if found is None:
            likely = self._recent[bucket].likely()
            x = quantile_of((s.x for s in likely), 0.5)
            seconds = quantile_of((s.value for s in likely), 0.5)
            found = self._points[bucket] = Point(x, seconds, len(likely))
        return found

    def _fit(self) -> Line:
        points = [self._point(bucket) for bucket in self._recent]
        if len(points) == 1 and self._shape is not None and self._shape.at(points[0].x) > 0:
            scale = points[0].seconds / self._shape.at(points[0].x)
            return Line(self._shape.base_s * scale, self._shape.slope_s * scale)
        return fit(points, self._fixed_share)

    def _changed(self) -> None:
        self._line = None
        self._factors.clear()


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else 1.0
