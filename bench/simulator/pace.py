"""How fast a machine is at a moment: what slows one step down slows the next ones down too.

Times that are drawn independently have the right spread and the wrong history: on a machine that
others use as well, slow moments last, and a queue feels them. Here a part of the spread is an
Ornstein-Uhlenbeck process that all draws share (a Gaussian copula): each drawn time keeps its
recorded distribution, and how alike two of them are falls with the time between them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import erf, exp, sqrt
from random import Random
from statistics import NormalDist

# Lags that an estimate looks at, seconds: between the first and the last of each pair.
LAGS_S = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0)
# Of fewer pairs a correlation is chance.
MOST_APART_S, LEAST_PAIRS = LAGS_S[-1], 30
SHARES = tuple(k / 20 for k in range(20))
LASTS_S = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Pace:
    """Of all that is drawn: which part of the spread lasts, and how long."""

    # of the variance of normal scores; 0: draws are independent
    share: float = 0.0
    # after so long two draws are alike by 1 / e of the share
    lasts_s: float = 1.0


class Slowness:
    """Ranks of what is drawn: 0 for the fastest of the samples, below 1 for the slowest."""

    def __init__(self, pace: Pace, random: Random) -> None:
        self._pace, self._random = pace, random
        self._shared, self._own = sqrt(pace.share), sqrt(1 - pace.share)
        self._level = random.gauss(0.0, 1.0)
        self._at_s = 0.0

    def turn_to(self, now_s: float) -> None:
        """Time goes on; it never goes back."""
        gap_s = now_s - self._at_s
        if gap_s > 0:
            kept = exp(-gap_s / self._pace.lasts_s)
            self._level = kept * self._level + sqrt(1 - kept * kept) * self._random.gauss(0.0, 1.0)
            self._at_s = now_s

    def rank(self) -> float:
        """Of the next draw; uniform over time, and alike for draws that are near each other."""
        score = self._shared * self._level + self._own * self._random.gauss(0.0, 1.0)
        # rounding makes 1 of what is far out
        return min(0.5 * (1 + erf(score / sqrt(2))), 1 - 1e-12)


def estimated(series: Sequence[Sequence[tuple[float, float]]]) -> Pace:
    """The pace of recorded (seconds, ratio to what is usual) in order of time, each a run.

    Correlations of normal scores by lag, and the share and the duration that come nearest to them.
    """
    curve = correlations(series)
    if not curve:
        return Pace()

    def off(pace: Pace) -> float:
        return sum(
            pairs * (found - pace.share * exp(-lag_s / pace.lasts_s)) ** 2
            for lag_s, found, pairs in curve
        )

    return min((Pace(share, lasts_s) for share in SHARES for lasts_s in LASTS_S), key=off)


def correlations(
    series: Sequence[Sequence[tuple[float, float]]],
) -> list[tuple[float, float, int]]:
    """(mean lag in seconds, mean product of normal scores, pairs) of each range of lags."""
    every = sorted(value for run in series for _, value in run)
    sums = [[0.0, 0.0, 0] for _ in LAGS_S[1:]]
    for run in series:
        for lag_s, product in _pairs(run, every):
            into = sums[max(0, bisect_left(LAGS_S, lag_s) - 1)]
            into[0] += lag_s
            into[1] += product
            into[2] += 1
    return [
        (lag_s / pairs, product / pairs, int(pairs))
        for lag_s, product, pairs in sums
        if pairs >= LEAST_PAIRS
    ]


def _pairs(
    run: Sequence[tuple[float, float]], every: Sequence[float]
) -> Iterator[tuple[float, float]]:
    normal = NormalDist()
    scores = [
        (at_s, normal.inv_cdf((bisect_left(every, value) + 0.5) / len(every)))
        for at_s, value in sorted(run)
    ]
    for first, (at_s, score) in enumerate(scores):
        for later_s, other in scores[first + 1 :]:
            if later_s - at_s > MOST_APART_S:
                break
            yield later_s - at_s, score * other
