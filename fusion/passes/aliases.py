"""Nodes that return their input: dropout at inference, detach, copies nothing writes to."""

from fusion.ir import Arg, Graph, Ref
from fusion.operators import ALIASES
from fusion.passes.rewrite import Weights, remove_dead_code, substitute


def remove_aliases(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Uses of an alias become uses of what it names."""
    moved: dict[Ref, Arg] = {
        Ref("node", index): node.args[0]
        for index, node in enumerate(graph.nodes)
        if node.operator in ALIASES
    }
    return remove_dead_code(substitute(graph, moved), weights)
