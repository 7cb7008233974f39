"""`stack`: members of one architecture as one graph, each product batched over their weights."""

from __future__ import annotations

from dataclasses import replace

from fusion.ir import Graph, Node, Output, Ref
from fusion.passes.rewrite import remove_dead_nodes
from fusion.shapes import SHAPE_ERRORS, infer
from fusion.stacking.builder import Builder, NotStackable, bound, by_place
from fusion.stacking.products import MOST_COPIED_BYTES
from fusion.stacking.rules import RULES, size_of

# two or more, since 1 is special to broadcasting; no size that models have
_PROBED_ROWS = 5


def may_stack(graph: Graph) -> bool:
    """Whether `stack_graph` is worth a call, which computes the shapes of all values."""
    if not graph.weights:
        return False
    own = {Ref("input", i) for i in range(len(graph.inputs))}
    own |= {Ref("weight", i) for i in range(len(graph.weights))}
    for index, node in enumerate(graph.nodes):
        if node.operator == "sym_size.int" or own.isdisjoint(node.refs()):
            continue
        if node.operator not in RULES:
            return False
        own |= {Ref("node", index, k) for k in range(node.outputs)}
    return all(spec.bytes <= MOST_COPIED_BYTES for spec in graph.weights if len(spec.shape) > 2)


def stack_graph(graph: Graph) -> Graph | None:
    """The graph of any number of members; None where an operator has no rule.

    Every input, weight and output has the members as one more dimension in front; its spec is one
    member's. All members have equally many rows.
    """
    try:
        values = infer(graph, range(len(graph.nodes)), graph.fixed_rows or _PROBED_ROWS)
    except SHAPE_ERRORS:
        return None  # what does not fit by its shapes fails where it says why
    builder = Builder(graph, values)
    try:
        for index, node in enumerate(graph.nodes):
            # rules find arguments at their places
            _add(builder, index, by_place(node, bound(node)))
        outputs = [Output(o.spec, builder.front(o.value)) for o in graph.outputs]
    except NotStackable:
        return None
    return remove_dead_nodes(replace(graph, nodes=tuple(builder.nodes), outputs=tuple(outputs)))


def _add(builder: Builder, index: int, node: Node) -> None:
    if not any(builder.is_stacked(ref) for ref in node.refs()):
        builder.copy(index, node)
    elif node.operator == "sym_size.int":
        builder.set_same(index, size_of(builder, node))
    elif node.operator in RULES:
        builder.set(index, RULES[node.operator](builder, node))
    else:
        raise NotStackable(node.operator)
