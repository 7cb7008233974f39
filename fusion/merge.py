"""What it takes to write several graphs as one: tensors of equal content once."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from fusion.ir import Graph, TensorSpec, WeightSpec

WeightKeys = Sequence[Hashable] | None  # per weight: equal keys, equal bytes; None: none known


class Merged(NamedTuple):
    """The merged graph; inputs and outputs are the members', one member after another."""

    graph: Graph
    weights: tuple[tuple[int, int], ...]  # per merged weight: (member, its index there)
    output_counts: tuple[int, ...]  # per member

    @property
    def row_groups(self) -> tuple[int, ...]:
        """Per input the member whose rows it has: rows of members are independent."""
        return tuple(int(spec.name.partition(".")[0]) for spec in self.graph.inputs)


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
