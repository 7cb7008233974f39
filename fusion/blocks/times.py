"""What operators of a graph take before any of them has run: by their shapes and measured rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusion.ir import Graph, Node, Ref
from fusion.shapes import SHAPE_ERRORS, infer
from fusion.tiers import synchronize

# of a call that computes next to nothing
CALL_S = 5e-6
_SIDE = 384
# beyond most caches, and little beside any budget
_COPIED_BYTES = 4 * 2**20
_TRIALS = 5
# one is special to broadcasting
_PROBED_ROWS = 2
# the argument whose last dimension is summed over; einsum's is not looked for
_PRODUCTS = {"linear": 0, "mm": 0, "matmul": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}


class Rates(NamedTuple):
    """What a processor does with the threads that torch has now."""

    operations_per_s: float  # multiplications with their additions, float32
    bytes_per_s: float  # read and written


def measure_rates(device: str = "cpu") -> Rates:
    """Some ten milliseconds."""
    x = torch.ones(_SIDE, _SIDE, device=device)
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s = _least_s(lambda: synchronize(torch.mm(x, x)))
    copy_s = _least_s(lambda: synchronize(target.copy_(source)))
    return Rates(_SIDE**3 / product_s, 2 * _COPIED_BYTES / copy_s)


def estimate(graph: Graph, rates: Rates, rows: int = 1) -> list[float]:
    """Seconds of each node; by the bytes of weights alone where shapes are unknown."""
    rows = graph.fixed_rows or rows
    try:
        # of one row some operators make other shapes than of more
        values = infer(graph, range(len(graph.nodes)), graph.fixed_rows or max(rows, _PROBED_ROWS))
    except SHAPE_ERRORS:
        values = {}
    share = min(1.0, rows / (graph.fixed_rows or max(rows, _PROBED_ROWS)))
    return [_node_s(graph, node, k, values, rates, share) for k, node in enumerate(graph.nodes)]


def _least_s(call: Any) -> float:
    times = []
    for _ in range(_TRIALS):
        began_s = perf_counter()
        call()
        times.append(perf_counter() - began_s)
    return min(times)


def _node_s(
    graph: Graph, node: Node, place: int, values: Mapping[Ref, Any], rates: Rates, share: float
) -> float:
    results = _tensors(values, [Ref("node", place, k) for k in range(node.outputs)])
    weights = [graph.weights[ref.index] for ref in node.refs() if ref.kind == "weight"]
    given = _tensors(values, [ref for ref in node.refs() if ref.kind != "weight"])
    touched = sum(_bytes(x) for x in (*results, *given)) * share
    moved_bytes = touched + sum(spec.bytes for spec in weights)
    operations = _operations(graph, node, values, results) * share
    return CALL_S + max(operations / rates.operations_per_s, moved_bytes / rates.bytes_per_s)


def _operations(
    graph: Graph, node: Node, values: Mapping[Ref, Any], results: Sequence[Tensor]
) -> float:
    """Multiplications of a product or a convolution."""
    if not results:
        return 0.0
    if "conv" in node.operator:
        place = 2 if node.operator == "mkldnn.conv2d_add" else 1
        kernel = _tensors(
            values, [ref for ref in node.args[place : place + 1] if isinstance(ref, Ref)]
        )
        return results[0].numel() * prod(kernel[0].shape[1:]) if kernel else 0.0
    if node.operator in _PRODUCTS:
        left = node.args[_PRODUCTS[node.operator]]
        given = _tensors(values, [left] if isinstance(left, Ref) else [])
        return results[0].numel() * float(max((x.shape[-1] for x in given if x.dim()), default=1))
    if node.operator == "einsum":
        given = _tensors(values, [*node.refs()])
        return results[0].numel() * float(max((x.shape[-1] for x in given if x.dim()), default=1))
    return 0.0


def _tensors(values: Mapping[Ref, Any], refs: Sequence[Ref]) -> list[Tensor]:
    return [value for ref in refs if isinstance(value := values.get(ref), Tensor)]


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()
