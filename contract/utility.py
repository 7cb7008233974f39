"""How well a function is served, as BCEdge puts it, and what that is computed from."""

from __future__ import annotations

from math import log
from typing import NamedTuple


class Served(NamedTuple):
    """What a function's callers got in some time, as sums."""

    seconds: float
    # jobs that succeeded, and those of them that were answered later than they were due
    answered: int
    late: int
    # of those answered, accepted to settled
    latency_s: float

    @property
    def throughput_per_s(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds if self.seconds > 0 else 0.0

    @property
    def goodput_per_s(self) -> float:
        """Answers per second that were in time."""
        return (self.answered - self.late) / self.seconds if self.seconds > 0 else 0.0

    @property
    def mean_latency_s(self) -> float | None:
        """None without answers."""
        return self.latency_s / self.answered if self.answered else None


def utility(served: Served, slo_s: float | None) -> float | None:
    """ln(throughput / (latency / SLO)): answers per second, mean latency and SLO in seconds.

    The definition of BCEdge (Zhang et al., 2023), for one function over one window. None where
    nothing was answered, or the function has no SLO.
    """
    latency_s = served.mean_latency_s
    if slo_s is None or not latency_s or not served.throughput_per_s:
        return None
    return log(served.throughput_per_s / (latency_s / slo_s))
