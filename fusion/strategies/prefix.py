"""What members compute from identical tensors once, on the rows of all of them."""

from collections.abc import Sequence

from torch import Tensor

from fusion.codegen import Program, generate
from fusion.merge import Merged
from fusion.strategies.work import Work


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
