"""Kernels in the order the processor reads them, where the graph computes the same with them.

It is a rule and not measured per model: functions fine-tuned from one model must agree, or they
would not share code. `bench/layouts.py` measures the rule.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fusion.codegen import generate
from fusion.ir import Graph
from fusion.numerics import all_close
from fusion.passes.channels_last import channels_last
from fusion.passes.rewrite import Weights
from fusion.probes import probe_inputs
from fusion.tiers import MEMBER_ERRORS


def with_channels_last(
    graph: Graph, weights: Weights, example: Mapping[str, Tensor], max_rows: int
) -> tuple[Graph, Weights]:
    """The graph with its kernels channels last, or as it is where that gives other values."""
    other, other_weights = channels_last(graph, weights)
    if other is graph:
        return graph, weights
    before, after = generate(graph).run, generate(other).run
    with torch.inference_mode():
        for rows in {graph.fixed_rows or 1, graph.fixed_rows or min(3, max_rows)}:
            named = probe_inputs(example, rows, seed=5)
            inputs = [named[spec.name] for spec in graph.inputs]
            expected = before([*weights.values()], inputs)
            try:
                is_same = all_close(after([*other_weights.values()], inputs), expected)
            except MEMBER_ERRORS:  # an operator that does not take the layout
                is_same = False
            if not is_same:
                return graph, weights
    return other, other_weights
