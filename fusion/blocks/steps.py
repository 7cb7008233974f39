"""The steps of a cut graph: nodes that no block boundary may part. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from fusion.blocks.records import Piece
from fusion.ir import Graph, Node, Ref

# What may return its argument's memory: every operator whose schema says so, and those that do so
# though theirs does not.
_VIEWS = """
    view reshape flatten.using_ints unflatten.int transpose.int permute t squeeze squeeze.dim
    squeeze.dims unsqueeze expand expand_as view_as reshape_as broadcast_to movedim.int swapaxes
    numpy_T chunk split.Tensor split_with_sizes unbind.int slice.Tensor select.int narrow diagonal
    unfold contiguous alias detach to.dtype
    type_as _unsafe_view meshgrid meshgrid.indexing einsum pixel_shuffle pixel_unshuffle
    channel_shuffle lift_fresh_copy dropout feature_dropout
"""
VIEWS = frozenset(_VIEWS.split())


def is_view(node: Node) -> bool:
    """Whether its result may be its argument's memory."""
    # of several tensors einsum makes a product
    return node.operator in VIEWS and (node.operator != "einsum" or len([*node.refs()]) == 1)


def sink_views(graph: Graph) -> Graph:
    """Each view of a weight is made anew, directly before every node that reads it."""
    return _Sinking(graph).run()


class _Sinking:
    """Leaves views of weights out, and puts copies of them where they are read."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes: list[Node] = []
        self._moved: dict[Ref, Ref] = {}
        self._views: set[int] = set()  # nodes that are views of weights

    def run(self) -> Graph:
        for place, node in enumerate(self._graph.nodes):
            if is_view(node) and any(self._is_weights(ref) for ref in node.refs()):
                self._views.add(place)
                continue
            made = self._copy(node)
            for k in range(node.outputs):
                self._moved[Ref("node", place, k)] = Ref("node", made, k)
        outputs = tuple(o._replace(value=self._here(o.value, {})) for o in self._graph.outputs)
        return replace(self._graph, nodes=tuple(self._nodes), outputs=outputs)

    def _is_weights(self, ref: Ref) -> bool:
        return ref.kind == "weight" or (ref.kind == "node" and ref.index in self._views)

    def _copy(self, node: Node) -> int:
        made: dict[int, int] = {}
        moved = node.rewire(lambda ref: self._here(ref, made))
        self._nodes.append(moved)
        return len(self._nodes) - 1

    def _here(self, ref: Ref, made: dict[int, int]) -> Ref:
        """The value, made anew where it is a view of a weight; `made` are those made already."""
        if ref.kind != "node" or ref.index not in self._views:
            return self._moved.get(ref, ref)
        if ref.index not in made:
            made[ref.index] = self._copy(self._graph.nodes[ref.index])
        return Ref("node", made[ref.index], ref.output)


class Step(NamedTuple):
    """Nodes that no block boundary may part: one node, and the views of weights that it reads."""

    begin: int
    end: int
    # weights of the cut graph that it reads from memory
    weights: tuple[int, ...]


def steps_of(graph: Graph, pieces: Sequence[Piece]) -> list[Step]:
    """The steps of a graph whose views were sunk, in order."""
    steps = []
    begin = 0
    is_weights = [False] * len(graph.nodes)
    for place, node in enumerate(graph.nodes):
        refs = list(node.refs())
        is_weights[place] = is_view(node) and any(
            ref.kind == "weight" or (ref.kind == "node" and is_weights[ref.index]) for ref in refs
        )
        if is_weights[place] and place + 1 < len(graph.nodes):
            continue
        used = {
            ref.index
            for each in graph.nodes[begin : place + 1]
            for ref in each.refs()
            if ref.kind == "weight" and not pieces[ref.index].is_gathered
        }
        steps.append(Step(begin, place + 1, tuple(sorted(used))))
        begin = place + 1
    return steps


def returned_weights(graph: Graph) -> frozenset[int]:
    """Weights that outputs are, or are views of: they must outlast the run."""
    found: set[int] = set()
    pending = [output.value for output in graph.outputs]
    while pending:
        ref = pending.pop()
        if ref.kind == "weight":
            found.add(ref.index)
        elif ref.kind == "node" and is_view(graph.nodes[ref.index]):
            pending += graph.nodes[ref.index].refs()
    return frozenset(found)
