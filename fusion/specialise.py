"""A graph written for one kind of device: other operators, the same values.

Specialised graphs are never stored or sent: they are made where they run, from checked graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusion import mkldnn
from fusion.codegen import Program, generate
from fusion.ir import Arg, Graph, Node, Ref
from fusion.passes.rewrite import remove_dead_nodes
from fusion.shapes import SHAPE_ERRORS, infer
from fusion.tiers import ONEDNN

# two, since 1 is special to broadcasting
_PROBED_ROWS = 2


class _Activation(NamedTuple):
    """How oneDNN spells an activation."""

    attr: str
    scalars: tuple[float, ...] = ()
    algorithm: str | None = None


def specialised(graph: Graph, device_kind: str, row_groups: tuple[int, ...] = ()) -> Program:
    """The program of an architecture, and its tier for a kind of device; milliseconds."""
    program = generate(graph, row_groups)
    if device_kind == "cpu":
        rewritten = for_cpu(graph)
        if rewritten is not graph:
            program.tiers.add(ONEDNN, generate(rewritten).run)
    return program


def for_cpu(graph: Graph) -> Graph:
    """Convolutions take the addition and the activation after them along, where oneDNN can.

    Numbers of weights, inputs and outputs stay as they are; a graph in which nothing can be done
    is given back itself.
    """
    if not mkldnn.is_available() or not any(node.operator == "conv2d" for node in graph.nodes):
        return graph
    try:
        values = infer(graph, range(len(graph.nodes)), graph.fixed_rows or _PROBED_ROWS)
    except SHAPE_ERRORS:
        return graph  # what does not even fit by its shapes shall fail where it says why
    return remove_dead_nodes(_Fusing(graph, values).run())


class _Fusing:
    """Grows each convolution along what uses its result alone."""

    def __init__(self, graph: Graph, values: Mapping[Ref, Any]) -> None:
        self._graph = graph
        self._values = values  # shapes and dtypes
        self._uses = graph.uses()
        self._nodes = list(graph.nodes)

    def run(self) -> Graph:
        for index, node in enumerate(self._graph.nodes):
            grown = self._with_addition(node) or self._with_activation(node)
            self._nodes[index] = grown or node
        return replace(self._graph, nodes=tuple(self._nodes))

    def _with_addition(self, node: Node) -> Node | None:
        if node.operator != "add.Tensor" or node.kwargs or len(node.args) != 2:
            return None
        # of two convolutions the second can read what the first has written
        for addend, conv in (node.args, node.args[::-1]):
            if not (isinstance(addend, Ref) and isinstance(conv, Ref)) or addend == conv:
                continue
            call = self._call(conv)
            if call is not None and self._is_alike(addend, conv):
                return Node("mkldnn.conv2d_add", (call[0], addend, *call[1:], None))
        return None

    def _with_activation(self, node: Node) -> Node | None:
        activation = _activation(node)
        source = node.args[0] if node.args else None
        if activation is None or not isinstance(source, Ref) or self._uses[source] != 1:
            return None
        before = self._nodes[source.index] if source.kind == "node" else None
        if before is not None and before.operator == "mkldnn.conv2d_add":
            is_relu = activation.attr == "relu"
            return replace(before, args=(*before.args[:-1], "relu")) if is_relu else None
        call = self._call(source)
        return None if call is None else Node("mkldnn.conv2d", (*call, *activation))

    def _call(self, ref: Ref) -> tuple[Arg, ...] | None:
        """(input, weight, bias, padding, stride, dilation, groups) of a convolution used once."""
        node = self._nodes[ref.index] if ref.kind == "node" else None
        if node is None or node.operator != "conv2d" or node.kwargs or self._uses[ref] != 1:
            return None
        x, weight, bias, stride, padding, dilation, groups = _completed(
            node.args, (None, None, None, 1, 0, 1, 1)
        )
        pairs = [_pair(value, low) for value, low in ((padding, 0), (stride, 1), (dilation, 1))]
        tensors = [self._values[arg] for arg in (x, weight, bias) if isinstance(arg, Ref)]
        if None in pairs or not all(t.dtype == torch.float32 for t in tensors):
            return None
        if not _fits(groups, self._values[ref], *tensors):
            return None
        return (x, weight, bias, *pairs, groups)

    def _is_alike(self, a: Ref, b: Ref) -> bool:
        one, other = self._values[a], self._values[b]
        return (
            isinstance(one, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape
        )


def _fits(
    groups: Arg, result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> bool:
    """Whether the arguments are what conv2d would take: the operators of oneDNN do not ask."""
    if type(groups) is not int or groups < 1 or x.dim() != 4 or weight.dim() != 4:
        return False
    outputs = weight.shape[0]
    return (
        x.shape[1] == weight.shape[1] * groups
        and outputs % groups == 0
        and result.numel() > 0
        and weight.numel() > 0
        and (bias is None or tuple(bias.shape) == (outputs,))
    )


def _pair(value: Arg, low: int) -> tuple[int, int] | None:
    pair = value if isinstance(value, tuple) else (value,)
    if len(pair) not in (1, 2) or not all(type(v) is int and v >= low for v in pair):
        return None
    return pair[0], pair[-1]  # type: ignore[return-value]  # ints, as was just checked


def _completed(args: Sequence[Arg], defaults: Sequence[Arg]) -> list[Arg]:
    return [*args, *defaults[len(args) :]]


def _activation(node: Node) -> _Activation | None:
    rest = node.args[1:]
    if node.operator in _PLAIN and not rest and not node.kwargs:
        return _PLAIN[node.operator]
    if node.operator == "hardtanh" and not node.kwargs:
        low, high = _completed(rest, (-1.0, 1.0))
        if isinstance(low, int | float) and isinstance(high, int | float):
            return _Activation("hardtanh", (float(low), float(high)))
    if node.operator == "leaky_relu" and not node.kwargs and len(rest) <= 1:
        slope = rest[0] if rest else 0.01
        return _Activation("leaky_relu", (slope,)) if isinstance(slope, int | float) else None
    return None


_PLAIN = {
    "relu": _Activation("relu"),
    "relu6": _Activation("hardtanh", (0.0, 6.0)),
    "sigmoid": _Activation("sigmoid"),
    "tanh": _Activation("tanh"),
    "hardswish": _Activation("hardswish"),
    "hardsigmoid": _Activation("hardsigmoid"),
    "silu": _Activation("swish"),
    "gelu": _Activation("gelu", (), "none"),
}
