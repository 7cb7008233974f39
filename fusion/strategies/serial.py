"""All members in one generated function, one after another, with all intra-op threads."""

from collections.abc import Sequence

from fusion.codegen import Program, generate
from fusion.ir import Graph
from fusion.merge import WeightKeys, merge
from fusion.strategies.work import MEMBER_ERRORS, Outcome, Work, attempt


class Serial:
    """One function for the whole group."""

    def __init__(self, graphs: Sequence[Graph], weight_keys: Sequence[WeightKeys]) -> None:
        self.merged = merge(graphs, weight_keys)
        self.program: Program = generate(self.merged.graph)

    @property
    def bytes(self) -> int:
        """Host bytes of the merged code."""
        return self.program.bytes

    def __call__(self, works: Sequence[Work]) -> list[Outcome]:
        """Run all; when one fails, each runs on its own, so that only the guilty one fails."""
        weights = [works[member].weights[index] for member, index in self.merged.weights]
        inputs = [x for work in works for x in work.inputs]
        try:
            outputs = iter(self.program.run(weights, inputs))
        except MEMBER_ERRORS:
            return [attempt(work) for work in works]
        return [[next(outputs) for _ in range(count)] for count in self.merged.output_counts]
