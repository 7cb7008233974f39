"""What members compute from identical tensors once, on the rows of all of them."""

from collections.abc import Sequence

from torch import Tensor

from fusion.codegen import Program, generate
from fusion.merge import Merged
from fusion.numerics import all_close
from fusion.strategies.work import MEMBER_ERRORS, Outcome, Work, attempt_each


class MergedCode:
    """Several members as one program, with tiers of its own."""

    def __init__(self, merged: Merged, program: Program | None = None) -> None:
        self.program = program or generate(merged.graph, merged.row_groups)
        self._weights = merged.weights
        self._output_counts = merged.output_counts
        # host bytes
        self.bytes = self.program.bytes

    def __call__(self, works: Sequence[Work]) -> list[list[Tensor]]:
        """Per member its outputs; one of MEMBER_ERRORS when any member fails."""
        weights = [works[member].weights[index] for member, index in self._weights]
        inputs = [x for work in works for x in work.inputs]
        outputs = iter(self.program.tiers.run(merged_rows(works), weights, inputs))
        return [[next(outputs) for _ in range(count)] for count in self._output_counts]


def merged_rows(works: Sequence[Work]) -> int:
    """Rows of a merged run, by which its tiers are told apart: of all members, in buckets."""
    return sum(work.rows for work in works)


class Prefix:
    """A merged graph with a shared prefix; its first run is compared with one without."""

    def __init__(self, merged: Merged, program: Program | None = None) -> None:
        self._merged = MergedCode(merged, program)
        self.program = self._merged.program
        self.bytes = self._merged.bytes
        # unknown before the first run
        self._is_right: bool | None = None

    def __call__(self, works: Sequence[Work]) -> list[Outcome]:
        """Run all; without the shared prefix, should it have given other results than that."""
        if self._is_right is False:
            return attempt_each(works)
        try:
            shared = self._merged(works)
        except MEMBER_ERRORS:  # the one that is at fault fails alone
            return attempt_each(works)
        if self._is_right:
            return [*shared]
        apart = attempt_each(works)
        self._is_right = all(
            isinstance(outcome, list) and all_close(found, outcome)
            for found, outcome in zip(shared, apart, strict=True)
        )
        return apart
