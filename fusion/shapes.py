"""What shapes and dtypes the values of a graph have: computed with tensors that hold no data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from fusion.bindings import dtype
from fusion.interpret import evaluate
from fusion.ir import Graph, Ref, TensorSpec, WeightSpec

# What operators raise that are given unfit arguments, or cannot tell the shape of their result.
SHAPE_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, ArithmeticError)


def infer(graph: Graph, nodes: Iterable[int], rows: int) -> dict[Ref, Any]:
    """Per value a tensor on the meta device, or a number; `nodes` hold all that they refer to.

    Raises one of SHAPE_ERRORS where an operator cannot tell.
    """
    device = torch.device("meta")

    def empty(spec: TensorSpec | WeightSpec) -> torch.Tensor:
        shape = [rows if size is None else size for size in spec.shape]
        return torch.empty(shape, dtype=dtype(spec.dtype), device=device)

    values: dict[Ref, Any] = {Ref("input", i): empty(spec) for i, spec in enumerate(graph.inputs)}
    values |= {Ref("weight", i): empty(spec) for i, spec in enumerate(graph.weights)}
    with torch.inference_mode():
        for index in nodes:
            for k, value in enumerate(evaluate(graph.nodes[index], values.__getitem__, device)):
                values[Ref("node", index, k)] = value
    return values
