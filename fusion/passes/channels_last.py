"""Kernels of convolutions in the order in which oneDNN and cuDNN read them: channels last.

torch's convolutions compute in the layout of their kernels and hand it on, so that nothing else
has to be said: activations follow.
"""

from dataclasses import replace

from torch import Tensor

from fusion.ir import Arg, Graph, Node, Ref
from fusion.passes.rewrite import Weights

_TO_OHWI = (0, 2, 3, 1)
_TO_OIHW = (0, 3, 1, 2)


def channels_last(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Kernels are stored [out, height, width, in]; a permuted view of them goes to conv2d.

    Kernels that have one layout only, of one channel or one pixel, stay as they are. `view`
    becomes `reshape`: it copies where the layout does not allow a view. Nothing is changed in a
    graph without other kernels.
    """
    kernels = _kernels(graph, weights)
    if not kernels:
        return graph, weights
    nodes = [Node("permute", (Ref("weight", index), _TO_OIHW)) for index in kernels]
    views: dict[Ref, Arg] = {
        Ref("weight", index): Ref("node", place) for place, index in enumerate(kernels)
    }

    def move(ref: Ref) -> Arg:
        if ref.kind == "node":
            return Ref("node", ref.index + len(kernels), ref.output)
        return views.get(ref, ref)

    def moved_output(ref: Ref) -> Ref:
        found = move(ref)
        assert isinstance(found, Ref), "an output is a tensor"
        return found

    nodes += [_reshaping(node).rewire(move) for node in graph.nodes]
    specs = tuple(
        spec._replace(shape=tuple(spec.shape[d] for d in _TO_OHWI)) if index in kernels else spec
        for index, spec in enumerate(graph.weights)
    )
    stored = {
        spec.name: _stored(weights[spec.name]) if index in kernels else weights[spec.name]
        for index, spec in enumerate(graph.weights)
    }
    outputs = tuple(o._replace(value=moved_output(o.value)) for o in graph.outputs)
    return replace(graph, weights=specs, nodes=tuple(nodes), outputs=outputs), stored


def _stored(kernel: Tensor) -> Tensor:
    return kernel.permute(_TO_OHWI).contiguous()


def _kernels(graph: Graph, weights: Weights) -> list[int]:
    """Weights that are kernels of conv2d and nothing else, and have more than one layout."""
    found: set[int] = set()
    others: set[int] = {o.value.index for o in graph.outputs if o.value.kind == "weight"}
    for node in graph.nodes:
        kernel = node.args[1] if node.operator == "conv2d" and len(node.args) > 1 else None
        for ref in node.refs():
            if ref.kind == "weight":
                (found if ref == kernel else others).add(ref.index)
    return sorted(i for i in found - others if _has_layouts(weights[graph.weights[i].name]))


def _has_layouts(kernel: Tensor) -> bool:
    return kernel.dim() == 4 and kernel.shape[1] > 1 and kernel.shape[2] * kernel.shape[3] > 1


def _reshaping(node: Node) -> Node:
    return replace(node, operator="reshape") if node.operator == "view" else node
