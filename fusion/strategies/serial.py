"""All members in one generated function, one after another, with all intra-op threads."""

from collections.abc import Sequence

from fusion.codegen import generate
from fusion.merge import Merged
from fusion.strategies.work import MEMBER_ERRORS, Outcome, Work, attempt


class Serial:
    """One function for the whole group."""

    def __init__(self, merged: Merged) -> None:
        program = generate(merged.graph)
        # the graph itself, several times its code, is not needed any more
        self._run = program.run
        self._weights = merged.weights
        self._output_counts = merged.output_counts
        # host bytes of the merged code
        self.bytes = program.bytes

    def __call__(self, works: Sequence[Work]) -> list[Outcome]:
        """Run all; when one fails, each runs on its own, so that only the guilty one fails."""
        weights = [works[member].weights[index] for member, index in self._weights]
        inputs = [x for work in works for x in work.inputs]
        try:
            outputs = iter(self._run(weights, inputs))
        except MEMBER_ERRORS:
            return [attempt(work) for work in works]
        return [[next(outputs) for _ in range(count)] for count in self._output_counts]
