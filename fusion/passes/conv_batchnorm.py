"""Batch normalisation at inference scales and shifts: fold both into the convolution before."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.ir import Arg, Graph, Node, Ref
from fusion.passes.rewrite import Weights, add_weight, remove_dead_code, substitute

_CONVOLUTIONS = frozenset(
    {"conv1d", "conv1d.padding", "conv2d", "conv2d.padding", "conv3d", "conv3d.padding"}
)


class _Pair(NamedTuple):
    """A convolution whose only use is the batch normalisation."""

    conv: int
    norm: int


def fold_conv_batchnorm(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """w' = w * g / sqrt(var + eps); b' = (b - mean) * g / sqrt(var + eps) + beta."""
    weights = dict(weights)
    moved: dict[Ref, Arg] = {}
    for pair in _pairs(graph):
        graph = _fold(graph, weights, pair)
        moved[Ref("node", pair.norm)] = Ref("node", pair.conv)
    return remove_dead_code(substitute(graph, moved), weights)


def _pairs(graph: Graph) -> list[_Pair]:
    uses = graph.uses()
    return [
        _Pair(node.args[0].index, index)
        for index, node in enumerate(graph.nodes)
        if node.operator == "batch_norm"
        and isinstance(node.args[0], Ref)
        and node.args[0].kind == "node"
        and uses[node.args[0]] == 1
        and _is_foldable(graph.nodes[node.args[0].index], node)
    ]


def _is_foldable(conv: Node, norm: Node) -> bool:
    parameters = (*conv.args[1:3], *norm.args[1:5])
    are_weights = all(p is None or (isinstance(p, Ref) and p.kind == "weight") for p in parameters)
    return conv.operator in _CONVOLUTIONS and not conv.kwargs and not norm.kwargs and are_weights


def _fold(graph: Graph, weights: Weights, pair: _Pair) -> Graph:
    conv, norm = graph.nodes[pair.conv], graph.nodes[pair.norm]

    def tensor(value: Arg, default: float) -> Tensor:
        if isinstance(value, Ref):  # float64: rounded once, at the end
            return weights[graph.weights[value.index].name].double()
        return torch.tensor(default, dtype=torch.float64)

    _, scale, shift, mean, variance, _, _, eps, _ = norm.args
    assert isinstance(conv.args[1], Ref)
    assert isinstance(eps, float)
    spec = graph.weights[conv.args[1].index]
    weight = weights[spec.name]  # [out, in / groups, *kernel]
    factor = tensor(scale, 1.0) * torch.rsqrt(tensor(variance, 1.0) + eps)  # [out]
    bias = (tensor((*conv.args, None)[2], 0.0) - tensor(mean, 0.0)) * factor + tensor(shift, 0.0)
    folded = weight.double() * factor.view(-1, *[1] * (weight.dim() - 1))
    stem = spec.name.removesuffix(".weight")
    graph, new_weight = add_weight(graph, weights, f"{stem}.folded_weight", folded.to(weight.dtype))
    graph, new_bias = add_weight(graph, weights, f"{stem}.folded_bias", bias.to(weight.dtype))
    args = (conv.args[0], new_weight, new_bias, *conv.args[3:])
    nodes = list(graph.nodes)
    nodes[pair.conv] = replace(conv, args=args)
    return replace(graph, nodes=tuple(nodes))
