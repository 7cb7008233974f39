"""Members side by side on the CPU: each lane runs its share with one intra-op thread."""

from collections.abc import Sequence
from functools import partial
from time import perf_counter

from fusion.errors import FusionError
from fusion.strategies.lanes import Lanes
from fusion.strategies.work import MEMBER_ERRORS, Outcome, Work

_MEMORY = 0.8  # weight of the past in a member's measured cost


class Branches:
    """Spreads members over lanes by what each was measured to take."""

    def __init__(self, lanes: Lanes, costs_s: Sequence[float]) -> None:
        self.lanes = lanes
        self.costs_s = list(costs_s)  # estimates at first, measurements from the first run on
        self._is_measured = False

    def __call__(self, works: Sequence[Work]) -> list[Outcome]:
        """Run all; a member that fails gives its error."""
        missing = FusionError("a lane ended before its member ran")
        outcomes: list[Outcome] = [missing] * len(works)
        took_s = [0.0] * len(works)
        self.lanes.run(
            [
                [partial(_run_member, works[k], k, outcomes, took_s) for k in share]
                for share in self.shares
            ]
        )
        self._learn(took_s)
        return outcomes

    @property
    def shares(self) -> list[list[int]]:
        """Members per lane, in the order in which they run."""
        return spread(self.costs_s, self.lanes.count)

    def _learn(self, took_s: Sequence[float]) -> None:
        past = _MEMORY if self._is_measured else 0.0
        self.costs_s = [
            past * old + (1 - past) * new for old, new in zip(self.costs_s, took_s, strict=True)
        ]
        self._is_measured = True


def spread(costs_s: Sequence[float], lanes: int) -> list[list[int]]:
    """Members per lane: the most expensive first, each to the lane with the least so far."""
    shares: list[list[int]] = [[] for _ in range(lanes)]
    loads_s = [0.0] * lanes
    for member in sorted(range(len(costs_s)), key=lambda k: -costs_s[k]):
        lane = min(range(lanes), key=loads_s.__getitem__)
        shares[lane].append(member)
        loads_s[lane] += costs_s[member]
    return shares


def _run_member(work: Work, k: int, outcomes: list[Outcome], took_s: list[float]) -> None:
    started_s = perf_counter()
    try:
        outcomes[k] = work.run_beside()
    except MEMBER_ERRORS as error:
        outcomes[k] = error
    took_s[k] = perf_counter() - started_s
