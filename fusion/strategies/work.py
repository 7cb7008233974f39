"""What a strategy is given and gives back."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

from torch import Tensor

from fusion.codegen import Program
from fusion.tiers import MEMBER_ERRORS

__all__ = ["MEMBER_ERRORS", "Outcome", "Strategy", "Work", "attempt", "attempt_each", "time_each"]


class Work(NamedTuple):
    """One member's part of a run: everything on one device."""

    program: Program
    weights: Sequence[Tensor]
    inputs: Sequence[Tensor]
    rows: int  # the row bucket: the most rows of a run

    def run(self) -> list[Tensor]:
        """The outputs, in the graph's order; the time it takes decides between tiers."""
        return self.program.tiers.run(self.rows, self.weights, self.inputs)

    def run_beside(self) -> list[Tensor]:
        """The same beside other members, which would falsify the time."""
        return self.program.tiers.run_beside(self.rows, self.weights, self.inputs)


# A member's outputs, or what it raised: the others are not affected.
Outcome = list[Tensor] | Exception
Strategy = Callable[[Sequence[Work]], list[Outcome]]


def attempt(work: Work) -> Outcome:
    """Run one member on its own."""
    try:
        return work.run()
    except MEMBER_ERRORS as error:
        return error


def attempt_each(works: Sequence[Work]) -> list[Outcome]:
    """`serial`: one after another, each by the fastest of its tiers."""
    return [attempt(work) for work in works]


def time_each(works: Sequence[Work]) -> tuple[list[Outcome], list[float]]:
    """`serial`, and the seconds of each member: on a CPU, elsewhere only of its launch."""
    outcomes, seconds = [], []
    began_s = perf_counter()
    for work in works:
        outcomes.append(attempt(work))
        ended_s = perf_counter()
        seconds.append(ended_s - began_s)
        began_s = ended_s
    return outcomes, seconds
