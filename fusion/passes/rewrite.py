"""What every pass needs: moving references, adding weights, dropping what nothing uses."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from torch import Tensor

from fusion.bindings import dtype_name
from fusion.ir import Arg, Graph, Node, Ref, WeightSpec

Weights = dict[str, Tensor]  # by the names of the graph's weights


def substitute(graph: Graph, moved: dict[Ref, Arg]) -> Graph:
    """Every use of a key becomes a use of its value; chains are followed."""

    def move(ref: Ref) -> Arg:
        value: Arg = ref
        while isinstance(value, Ref) and value in moved:
            value = moved[value]
        return value

    def move_output(ref: Ref) -> Ref:
        value = move(ref)
        assert isinstance(value, Ref), "an output is a tensor"
        return value

    return replace(
        graph,
        nodes=tuple(node.rewire(move) for node in graph.nodes),
        outputs=tuple(o._replace(value=move_output(o.value)) for o in graph.outputs),
    )


def add_weight(graph: Graph, weights: Weights, name: str, tensor: Tensor) -> tuple[Graph, Ref]:
    """Append a weight under an unused name; `weights` is the caller's own copy and gets it too."""
    unique, number = name, 1
    while unique in weights:
        unique, number = f"{name}.{number}", number + 1
    weights[unique] = tensor.contiguous()
    spec = WeightSpec(unique, dtype_name(tensor.dtype), tuple(tensor.shape))
    return replace(graph, weights=(*graph.weights, spec)), Ref("weight", len(graph.weights))


def remove_dead_code(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Drop nodes and weights no output depends on; weights are put in order of first use."""
    graph = remove_dead_nodes(graph)
    moved: dict[Ref, Ref] = {}
    order: list[int] = []

    def move(ref: Ref) -> Ref:
        if ref.kind == "weight" and ref not in moved:
            moved[ref] = Ref("weight", len(order))
            order.append(ref.index)
        return moved.get(ref, ref)

    graph = _rewired(graph, graph.nodes, move)
    specs = tuple(graph.weights[index] for index in order)
    return replace(graph, weights=specs), {spec.name: weights[spec.name] for spec in specs}


def remove_dead_nodes(graph: Graph) -> Graph:
    """Drop nodes no output depends on; weights and inputs stay, needed or not."""
    kept = _needed_nodes(graph)

    def move(ref: Ref) -> Ref:
        return Ref("node", kept[ref.index], ref.output) if ref.kind == "node" else ref

    return _rewired(graph, [graph.nodes[index] for index in kept], move)


def _rewired(graph: Graph, nodes: Iterable[Node], move: Callable[[Ref], Ref]) -> Graph:
    """These nodes, and the outputs after them, with every reference moved once."""
    return replace(
        graph,
        nodes=tuple([node.rewire(move) for node in nodes]),
        outputs=tuple([o._replace(value=move(o.value)) for o in graph.outputs]),
    )


def _needed_nodes(graph: Graph) -> dict[int, int]:
    """Index of each needed node -> its new index, in order."""
    needed = {o.value.index for o in graph.outputs if o.value.kind == "node"}
    for index in reversed(range(len(graph.nodes))):
        if index in needed:
            needed |= {r.index for r in graph.nodes[index].refs() if r.kind == "node"}
    return {old: new for new, old in enumerate(sorted(needed))}
