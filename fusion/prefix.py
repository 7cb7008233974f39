"""A shared prefix: what members compute from identical tensors runs once, on the rows of all.

Nodes are numbered by what they compute (value numbering): operator, arguments, content of weights.
Those that all members of a cluster have in common form its core. Values of the core that a member
goes on with are split by rows; a value without rows (a number of rows, a mask for all) is computed
again by each member from what it has.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from fusion.ir import Arg, Graph, Node, Output, Ref, TensorSpec
from fusion.merge import Merged, WeightKeys, WeightTable, prefixed
from fusion.shapes import SHAPE_ERRORS, infer

ARCHITECTURES_KEPT = 128
# Shapes at these numbers of rows tell rows from other sizes: no model has both by chance.
_PROBED_ROWS = (5, 7)


class Value(NamedTuple):
    """One result of what is computed under a number."""

    number: int
    output: int


@dataclass
class _Member:
    """A graph with its nodes numbered."""

    graph: Graph
    keys: WeightKeys
    numbers: list[int] = field(default_factory=list)


@dataclass
class _Numbering:
    """Equal numbers compute equal values from equal inputs."""

    numbers: dict[Hashable, int] = field(default_factory=dict)
    # those that depend on a weight: worth sharing
    weighty: set[int] = field(default_factory=set)

    def number(self, graph: Graph, keys: WeightKeys) -> _Member:
        """Number the nodes of a graph whose weights have these contents."""
        member = _Member(graph, keys)
        for node in graph.nodes:
            args = [(name, self._key(value, member)) for name, value in node.kwargs]
            key = (node.operator, node.outputs, self._key(node.args, member), *args)
            number = self.numbers.setdefault(key, len(self.numbers))
            member.numbers.append(number)
            if any(ref.kind == "weight" or self._is_weighty(ref, member) for ref in node.refs()):
                self.weighty.add(number)
        return member

    def _is_weighty(self, ref: Ref, member: _Member) -> bool:
        return ref.kind == "node" and member.numbers[ref.index] in self.weighty

    def _key(self, value: Arg, member: _Member) -> Hashable:
        if isinstance(value, Ref):
            return self._ref_key(value, member)
        if isinstance(value, tuple):
            return tuple(self._key(item, member) for item in value)
        # 1, 1.0 and True are equal, and -0.0 is 0.0
        return (type(value), repr(value)) if isinstance(value, bool | int | float) else value

    def _ref_key(self, ref: Ref, member: _Member) -> Hashable:
        if ref.kind == "node":
            return ("node", member.numbers[ref.index], ref.output)
        if ref.kind == "input":
            return ("input", ref.index, member.graph.inputs[ref.index][1:])
        assert member.keys is not None
        return ("weight", member.keys[ref.index], member.graph.weights[ref.index][1:])


@dataclass
class _Cluster:
    """Members with a core in common."""

    members: list[int]
    # node indices in the first member
    core: list[int]
    # what members go on with
    frontier: list[Value]
    # per member: the nodes that it runs itself
    own: dict[int, list[int]]


def merge_prefix(graphs: Sequence[Graph], weight_keys: Sequence[WeightKeys]) -> Merged | None:
    """One graph of all members in which shared prefixes run once; None where none is shared."""
    numbering = _Numbering()
    members = {
        k: numbering.number(graph, keys)
        for k, (graph, keys) in enumerate(zip(graphs, weight_keys, strict=True))
        if keys is not None and graph.batchable and graph.fixed_rows is None
    }
    clusters = _clusters(members, numbering.weighty)
    return _Merger(graphs, weight_keys, members).merge(clusters) if clusters else None


def merge_members(graphs: Sequence[Graph], weight_keys: Sequence[WeightKeys]) -> Merged:
    """One graph of all members, side by side where they share no prefix."""
    shared = merge_prefix(graphs, weight_keys)
    return shared or _Merger(graphs, weight_keys, {}).merge([])


@dataclass(frozen=True, slots=True)
class _Known:
    """A graph by its architecture."""

    architecture: str
    graph: Graph = field(compare=False)


def values_with_rows(graph: Graph, nodes: Iterable[int]) -> frozenset[Ref]:
    """Results whose dimension 0 is the rows, those of these nodes at least.

    `nodes` are closed under their arguments. Nothing is computed but shapes, and once for an
    architecture; empty where an operator cannot tell its own.
    """
    try:
        return row_values(_Known(graph.architecture, graph))
    except SHAPE_ERRORS:  # of some node: not of these, it may be
        return _row_values(graph, nodes)


@lru_cache(ARCHITECTURES_KEPT)
def row_values(known: _Known) -> frozenset[Ref]:
    """The same of a whole graph; raises one of SHAPE_ERRORS."""
    return _rows_in(known.graph, range(len(known.graph.nodes)))


def _row_values(graph: Graph, nodes: Iterable[int]) -> frozenset[Ref]:
    try:
        return _rows_in(graph, list(nodes))
    except SHAPE_ERRORS:
        return frozenset()


def _rows_in(graph: Graph, nodes: Sequence[int]) -> frozenset[Ref]:
    few, many = (infer(graph, nodes, rows) for rows in _PROBED_ROWS)
    return frozenset(ref for ref in few if ref.kind == "node" and _has_rows(few[ref], many[ref]))


def _has_rows(few: Any, many: Any) -> bool:
    if not isinstance(few, torch.Tensor) or not few.dim():
        return False
    return (few.size(0), many.size(0)) == _PROBED_ROWS and few.shape[1:] == many.shape[1:]


def _clusters(members: dict[int, _Member], weighty: set[int]) -> list[_Cluster]:
    clusters = []
    left = dict(members)
    while left:
        first = next(iter(left))
        weights = weighty.intersection(left[first].numbers)
        alike = [k for k, member in left.items() if not weights.isdisjoint(member.numbers)]
        if len(alike) > 1:
            cluster = _cluster({k: left[k] for k in alike})
            if not weighty.isdisjoint(left[first].numbers[i] for i in cluster.core):
                clusters.append(cluster)
        left = {k: member for k, member in left.items() if k not in (first, *alike)}
    return clusters


def _cluster(members: dict[int, _Member]) -> _Cluster:
    """The core of members that have something in common."""
    first = next(iter(members.values()))
    shared = set.intersection(*(set(member.numbers) for member in members.values()))
    common = [i for i, number in enumerate(first.numbers) if number in shared]
    # a graph may compute the same twice
    places = {first.numbers[i]: i for i in common}
    rows = {
        Value(first.numbers[ref.index], ref.output) for ref in values_with_rows(first.graph, common)
    }
    frontier: dict[Value, None] = {}
    own = {}
    for k, member in members.items():
        own[k] = _own_nodes(member, shared, rows, frontier)
    core = _needed(first.graph, [places[value.number] for value in frontier])
    return _Cluster([*members], core, [*frontier], own)


def _own_nodes(
    member: _Member, shared: set[int], rows: set[Value], frontier: dict[Value, None]
) -> list[int]:
    """What a member runs itself; what it takes from the core is added to `frontier`."""
    own = {i for i, number in enumerate(member.numbers) if number not in shared}
    waiting = [ref for i in own for ref in member.graph.nodes[i].refs()]
    waiting += [output.value for output in member.graph.outputs]
    while waiting:
        ref = waiting.pop()
        if ref.kind != "node" or ref.index in own:
            continue
        value = Value(member.numbers[ref.index], ref.output)
        if value in rows:
            frontier[value] = None
        else:
            own.add(ref.index)
            waiting += member.graph.nodes[ref.index].refs()
    return sorted(own)


def _needed(graph: Graph, nodes: Iterable[int]) -> list[int]:
    """These nodes and all they depend on, in order."""
    needed: set[int] = set()
    waiting = [*nodes]
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            waiting += [r.index for r in graph.nodes[index].refs() if r.kind == "node"]
    return sorted(needed)


class _Merger:
    """Writes the merged graph."""

    def __init__(
        self,
        graphs: Sequence[Graph],
        weight_keys: Sequence[WeightKeys],
        members: dict[int, _Member],
    ) -> None:
        self._graphs = graphs
        self._members = members
        self._weights = WeightTable()
        self._weight_places = [
            self._weights.add(k, graph, keys)
            for k, (graph, keys) in enumerate(zip(graphs, weight_keys, strict=True))
        ]
        self._inputs: list[TensorSpec] = []
        self._input_bases = []
        for k, graph in enumerate(graphs):
            self._input_bases.append(len(self._inputs))
            self._inputs += [prefixed(k, spec) for spec in graph.inputs]
        self._nodes: list[Node] = []
        # per member: what stands for a value of the core
        self._given: dict[int, dict[Value, Ref]] = {}

    def merge(self, clusters: Sequence[_Cluster]) -> Merged:
        """All members, the cores of these clusters once."""
        own: dict[int, list[int]] = {}
        for cluster in clusters:
            self._add_core(cluster)
            own |= cluster.own
        outputs: list[Output] = []
        for k, graph in enumerate(self._graphs):
            outputs += self._add_member(k, own.get(k, [*range(len(graph.nodes))]))
        graph = Graph(
            tuple(self._inputs), tuple(self._weights.specs), tuple(self._nodes), tuple(outputs)
        )
        counts = tuple(len(graph.outputs) for graph in self._graphs)
        return Merged(graph, tuple(self._weights.origins), counts)

    def _add(self, node: Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _add_core(self, cluster: _Cluster) -> None:
        first = self._members[cluster.members[0]]
        nodes = first.graph.nodes
        joined: dict[int, Ref] = {}
        for index in sorted(
            {r.index for i in cluster.core for r in nodes[i].refs() if r.kind == "input"}
        ):
            parts = tuple(Ref("input", self._input_bases[k] + index) for k in cluster.members)
            joined[index] = Ref("node", self._add(Node("cat", (parts, 0))))
        places: dict[int, int] = {}

        def move(ref: Ref) -> Ref:
            if ref.kind == "weight":
                return Ref("weight", self._weight_places[cluster.members[0]][ref.index])
            if ref.kind == "input":
                return joined[ref.index]
            return Ref("node", places[ref.index], ref.output)

        for index in cluster.core:
            places[index] = self._add(nodes[index].rewire(move))
        by_number = {first.numbers[index]: places[index] for index in cluster.core}
        sizes = tuple(
            Ref("node", self._add(Node("sym_size.int", (Ref("input", self._input_bases[k]), 0))))
            for k in cluster.members
        )
        for value in cluster.frontier:
            whole = Ref("node", by_number[value.number], value.output)
            split = self._add(Node("split_with_sizes", (whole, sizes, 0), outputs=len(sizes)))
            for part, k in enumerate(cluster.members):
                self._given.setdefault(k, {})[value] = Ref("node", split, part)

    def _add_member(self, k: int, own: Iterable[int]) -> list[Output]:
        graph, given = self._graphs[k], self._given.get(k, {})
        places: dict[int, int] = {}

        def move(ref: Ref) -> Ref:
            if ref.kind == "weight":
                return Ref("weight", self._weight_places[k][ref.index])
            if ref.kind == "input":
                return Ref("input", self._input_bases[k] + ref.index)
            if ref.index in places:
                return Ref("node", places[ref.index], ref.output)
            return given[Value(self._members[k].numbers[ref.index], ref.output)]

        for index in own:
            places[index] = self._add(graph.nodes[index].rewire(move))
        return [Output(prefixed(k, o.spec), move(o.value)) for o in graph.outputs]
