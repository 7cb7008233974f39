"""Several graphs as one: nodes one after another, tensors of equal content once."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec

WeightKeys = Sequence[Hashable] | None  # per weight: equal keys, equal bytes; None: none known


class Merged(NamedTuple):
    """The merged graph; inputs and outputs are the members', one member after another."""

    graph: Graph
    weights: tuple[tuple[int, int], ...]  # per merged weight: (member, its index there)
    output_counts: tuple[int, ...]  # per member


def merge(graphs: Sequence[Graph], weight_keys: Sequence[WeightKeys]) -> Merged:
    """One graph that computes all; identical weights (by key, dtype and shape) appear once."""
    inputs: list[TensorSpec] = []
    nodes: list[Node] = []
    outputs: list[Output] = []
    weights = WeightTable()
    for member, (graph, keys) in enumerate(zip(graphs, weight_keys, strict=True)):
        bases = {"input": len(inputs), "node": len(nodes)}
        places = weights.add(member, graph, keys)

        def move(ref: Ref, bases: dict[str, int] = bases, places: list[int] = places) -> Ref:
            if ref.kind == "weight":
                return Ref("weight", places[ref.index])
            return Ref(ref.kind, bases[ref.kind] + ref.index, ref.output)

        inputs += [prefixed(member, spec) for spec in graph.inputs]
        nodes += [node.rewire(move) for node in graph.nodes]
        outputs += [Output(prefixed(member, o.spec), move(o.value)) for o in graph.outputs]
    merged = Graph(tuple(inputs), tuple(weights.specs), tuple(nodes), tuple(outputs))
    return Merged(merged, tuple(weights.origins), tuple(len(g.outputs) for g in graphs))


class WeightTable:
    """The merged weights, found again by key."""

    def __init__(self) -> None:
        self.specs: list[WeightSpec] = []
        self.origins: list[tuple[int, int]] = []
        self.places: dict[Hashable, int] = {}

    def add(self, member: int, graph: Graph, keys: WeightKeys) -> list[int]:
        """Where each weight of the member is."""
        found = []
        for index, spec in enumerate(graph.weights):
            unique: Hashable = (member, index) if keys is None else (keys[index], *spec[1:])
            if unique not in self.places:
                self.places[unique] = len(self.specs)
                self.specs.append(spec._replace(name=f"{member}.{spec.name}"))
                self.origins.append((member, index))
            found.append(self.places[unique])
        return found


def prefixed(member: int, spec: TensorSpec) -> TensorSpec:
    """The spec under a name of its own beside other members'."""
    return spec._replace(name=f"{member}.{spec.name}")
