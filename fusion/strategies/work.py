"""What a strategy is given and gives back."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from fusion.codegen import Program


class Work(NamedTuple):
    """One member's part of a run: everything on one device."""

    program: Program
    weights: Sequence[Tensor]
    inputs: Sequence[Tensor]

    def run(self) -> list[Tensor]:
        """The outputs, in the graph's order."""
        return self.program.run(self.weights, self.inputs)


# A member's outputs, or what it raised: the others are not affected.
Outcome = list[Tensor] | Exception
Strategy = Callable[[Sequence[Work]], list[Outcome]]

# What generated code raises on bad input: torch's errors derive from RuntimeError.
MEMBER_ERRORS = (RuntimeError, IndexError, TypeError, ValueError, OverflowError, ArithmeticError)


def attempt(work: Work) -> Outcome:
    """Run one member on its own."""
    try:
        return work.run()
    except MEMBER_ERRORS as error:
        return error
