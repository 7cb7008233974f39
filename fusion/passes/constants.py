"""Nodes that depend on weights alone are computed once, at deploy."""

from typing import Any

import torch
from torch import Tensor

from fusion.interpret import evaluate
from fusion.ir import Arg, Graph, Node, Ref
from fusion.passes.rewrite import Weights, add_weight, remove_dead_code, substitute

# A result larger than this must take no more bytes than the weights it replaces, and keep a dense
# layout: an expanded mask or a transposed copy would cost more at run time than it saves.
SMALL_BYTES = 1 << 20


def fold_constants(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Constant nodes become weights `folded.*`, constant integers become literals."""
    weights = dict(weights)
    known = _constants(graph, weights)
    moved: dict[Ref, Arg] = {}
    for ref in _frontier(graph, known):
        value = known[ref]
        if isinstance(value, Tensor):
            graph, moved[ref] = add_weight(graph, weights, "folded", value)
        else:
            moved[ref] = value
    return remove_dead_code(substitute(graph, moved), weights)


def _constants(graph: Graph, weights: Weights) -> dict[Ref, Any]:
    known: dict[Ref, Any] = {
        Ref("weight", i): weights[spec.name] for i, spec in enumerate(graph.weights)
    }
    with torch.no_grad():
        for index, node in enumerate(graph.nodes):
            if all(ref in known for ref in node.refs()):
                results = evaluate(node, known.__getitem__, torch.device("cpu"))
                if _is_worthwhile(node, results, known):
                    known |= {Ref("node", index, k): value for k, value in enumerate(results)}
    return known


def _is_worthwhile(node: Node, results: list[Any], known: dict[Ref, Any]) -> bool:
    tensors = [r for r in results if isinstance(r, Tensor)]
    size_bytes = sum(t.numel() * t.element_size() for t in tensors)
    if size_bytes <= SMALL_BYTES:
        return True
    sources = [known[ref] for ref in set(node.refs()) if isinstance(known[ref], Tensor)]
    is_dense = all(t.is_contiguous() for t in tensors)
    return is_dense and size_bytes <= sum(s.numel() * s.element_size() for s in sources)


def _frontier(graph: Graph, known: dict[Ref, Any]) -> list[Ref]:
    """Constants of nodes that something not constant uses, in order."""
    used = {o.value for o in graph.outputs}
    for index, node in enumerate(graph.nodes):
        if Ref("node", index) not in known:
            used |= set(node.refs())
    found = [ref for ref in used if ref.kind == "node" and ref in known]
    return sorted(found, key=lambda ref: (ref.index, ref.output))
