"""One function in blocks: planned by estimates, planned anew by what its runs took, and settled."""

from __future__ import annotations

from enum import Enum
from statistics import median

from fusion.blocks.body import BlockedGraph, replanned, replayed_s
from fusion.blocks.observed import Measured, Observed, measured

# of each plan; the first after a load finds nothing that was read ahead and is not one of them
RUNS = 5
# a plan that is to gain less than this is not tried
LEAST_GAIN = 0.02


class Phase(Enum):
    """How far it is."""

    ESTIMATED = "estimated"
    # by measured times, to be compared with the one before
    TRIED = "tried"
    # no other plan is looked for
    SETTLED = "settled"


class Trials:
    """Two plans at most, each for a few runs that had to read. Not thread-safe."""

    def __init__(self, body: BlockedGraph) -> None:
        self.body = body
        self.phase = Phase.SETTLED if body.is_settled else Phase.ESTIMATED
        # of the cut, once it is settled here
        self.learned: Measured | None = None
        self._before, self._before_s = body, 0.0
        self._runs: list[Observed] = []
        self._seen = 0

    def note(self, body: BlockedGraph, run: Observed) -> bool:
        """A run of this plan; whether `decide` is due, once."""
        if self.phase is Phase.SETTLED or len(self._runs) == RUNS or body is not self.body:
            return False
        self._seen += 1
        # from the page cache every plan is as fast as any other
        if self._seen > 1 and run.read_bytes * 2 >= self.body.plan.read_bytes > 0:
            self._runs.append(run)
        return len(self._runs) == RUNS

    def decide(self) -> BlockedGraph | None:
        """Another plan to go on with; None: the one there is."""
        took_s = median(run.run_s for run in self._runs)
        other = self._planned(took_s) if self.phase is Phase.ESTIMATED else self._compared(took_s)
        if other is not None:
            self.body = other
        self._runs, self._seen = [], 0
        return other

    def _planned(self, took_s: float) -> BlockedGraph | None:
        found = measured(self._runs)
        other = replanned(self.body, found)
        self.learned = found
        if other.plan.run_s > replayed_s(self.body, found) * (1 - LEAST_GAIN):
            self.phase = Phase.SETTLED
            return None
        self.phase = Phase.TRIED
        self._before, self._before_s = self.body, took_s
        return other

    def _compared(self, took_s: float) -> BlockedGraph | None:
        assert self.learned is not None, "it was planned by that"
        self.phase = Phase.SETTLED
        if took_s <= self._before_s:
            return None
        self.learned = self.learned._replace(is_better=False)
        return self._before
