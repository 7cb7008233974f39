"""Layers whose outputs are independent rows of one weight: by these they can be split. No torch."""

from __future__ import annotations

from typing import NamedTuple

from fusion.ir import Arg, Graph, Node, Ref

# the dimension of the outputs, from the end: of one input without rows too
_LAYERS = {
    "linear": -1,
    **dict.fromkeys(("conv1d", "conv1d.padding"), -2),
    **dict.fromkeys(("conv2d", "conv2d.padding"), -3),
    **dict.fromkeys(("conv3d", "conv3d.padding"), -4),
}
_GROUPS = 6  # the argument of a convolution
_TRANSPOSED = {
    "t": ((),),
    "numpy_T": ((),),
    "transpose.int": ((0, 1), (1, 0), (-1, -2), (-2, -1), (0, -1), (1, -2), (-1, 0), (-2, 1)),
    "permute": (((1, 0),),),
}


class Layer(NamedTuple):
    """A node whose outputs are independent rows of one weight."""

    weight: int
    weight_argument: int
    bias: int | None
    bias_argument: int
    # of the outputs
    dim: int
    # between the weight and the node
    views: tuple[Node, ...] = ()


def layer_of(graph: Graph, node: Node) -> Layer | None:
    """How a node can be split; None where it cannot."""
    if node.kwargs:
        return None
    if node.operator in _LAYERS:
        groups = node.args[_GROUPS] if len(node.args) > _GROUPS else 1
        return _plain_layer(graph, node, _LAYERS[node.operator]) if groups == 1 else None
    return _product(graph, node) if node.operator in ("mm", "matmul", "addmm") else None


def _plain_layer(graph: Graph, node: Node, dim: int) -> Layer | None:
    """(input, weight, bias?): the weight's first dimension are the outputs."""
    weight, views = _source(graph, node.args[1])
    if weight is None or not all(_keeps_rows(view) for view in views):
        return None
    shape = graph.weights[weight].shape
    bias = node.args[2] if len(node.args) > 2 else None
    if len(shape) < 2 or not (bias is None or _is_row_of(graph, bias, shape)):
        return None
    return Layer(weight, 1, bias.index if isinstance(bias, Ref) else None, 2, dim, views)


def _is_row_of(graph: Graph, bias: Arg, shape: tuple[int, ...]) -> bool:
    """Whether it has a number for each output: else it is broadcast, and has none to be split."""
    if not isinstance(bias, Ref) or bias.kind != "weight":
        return False
    return graph.weights[bias.index].shape == shape[:1]


def _product(graph: Graph, node: Node) -> Layer | None:
    """x @ w.T, with or without a bias: the columns of w.T are the rows of w."""
    place = 2 if node.operator == "addmm" else 1
    weight, views = _source(graph, node.args[place])
    if weight is None or len(views) != 1 or not _is_transposed(views[0]):
        return None
    spec = graph.weights[weight]
    if len(spec.shape) != 2:
        return None
    if node.operator != "addmm":
        return Layer(weight, place, None, 0, -1, views)
    bias = node.args[0]
    if not isinstance(bias, Ref) or not _is_row_of(graph, bias, spec.shape):
        return None
    return Layer(weight, place, bias.index, 0, -1, views)


def _source(graph: Graph, value: Arg) -> tuple[int | None, tuple[Node, ...]]:
    """The weight that an argument is or is one view of, and that view."""
    if isinstance(value, Ref) and value.kind == "weight":
        return value.index, ()
    node = graph.nodes[value.index] if isinstance(value, Ref) and value.kind == "node" else None
    if node is None or node.operator not in _TRANSPOSED or node.kwargs:
        return None, ()
    source = node.args[0]
    if isinstance(source, Ref) and source.kind == "weight":
        return source.index, (node,)
    return None, ()


def _keeps_rows(view: Node) -> bool:
    """Whether the first dimension stays where it is."""
    order = view.args[1] if view.operator == "permute" else None
    return isinstance(order, tuple) and bool(order) and order[0] == 0


def _is_transposed(view: Node) -> bool:
    return view.args[1:] in _TRANSPOSED[view.operator]
