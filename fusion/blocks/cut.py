"""A graph cut so that weights are no larger than a piece, and each is asked for where it is used.

Three rewrites, none of which changes what is computed: wide linear layers and convolutions are
split by output rows (a piece is a range of the same bytes of the file) and their results
concatenated; rows of large embeddings are gathered from the file; views of weights move to the node
that reads them, so that none outlives its block. No torch: a plan is made without it too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fusion.blocks.layers import Layer, layer_of
from fusion.blocks.records import Piece
from fusion.ir import Arg, Graph, Node, Ref, WeightSpec, map_refs
from fusion.weights import WeightsIndex

# an embedding of fewer bytes is read whole: one read costs less than a call for each row
GATHER_FROM_BYTES = 2**20
# where the bytes of a piece begin: a cache line, as tensors of the file
ALIGNMENT_BYTES = 64
# Pieces of a product may be smaller than those of a convolution: to split one costs next to
# nothing, and a ring of many small blocks is fuller than one of few.
_PRODUCT_PARTS = 8
_PRODUCT_BYTES = 4 * 2**20


class Cut(NamedTuple):
    """A graph whose weights are pieces, in its order; the same values come out."""

    graph: Graph
    pieces: tuple[Piece, ...]


def cut(graph: Graph, index: WeightsIndex, most_bytes: int) -> Cut:
    """Split what is larger than `most_bytes`, where it can be split."""
    return _Cutting(graph, index, most_bytes).run()


@dataclass
class _Cutting:
    """Rewrites node by node."""

    graph: Graph
    index: WeightsIndex
    most_bytes: int
    nodes: list[Node] = field(default_factory=list)
    specs: list[WeightSpec] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    def __post_init__(self) -> None:
        entries = {entry.name: entry for entry in self.index.entries}
        offset = self.index.data_offset
        self._begins = [offset + entries[spec.name].offset for spec in self.graph.weights]
        self._known: dict[tuple[int, int, int, bool], Ref] = {}
        self._moved: dict[Ref, Ref] = {}

    def run(self) -> Cut:
        for place, node in enumerate(self.graph.nodes):
            made = self._gathered(node) or self._split(node)
            if made is None:
                made = self._add(node.rewire(self._move))
            for k in range(node.outputs):
                self._moved[Ref("node", place, k)] = replace(made, output=k)
        outputs = tuple(o._replace(value=self._move(o.value)) for o in self.graph.outputs)
        made_graph = replace(
            self.graph, weights=tuple(self.specs), nodes=tuple(self.nodes), outputs=outputs
        )
        return Cut(made_graph, tuple(self.pieces))

    def _add(self, node: Node) -> Ref:
        self.nodes.append(node)
        return Ref("node", len(self.nodes) - 1)

    def _move(self, ref: Ref) -> Ref:
        if ref.kind == "weight":
            return self._piece(ref.index, 0, self._rows(ref.index))
        return self._moved.get(ref, ref)

    def _rows(self, weight: int) -> int:
        return (*self.graph.weights[weight].shape, 1)[0]

    def _piece(self, weight: int, first: int, end: int, is_gathered: bool = False) -> Ref:
        """The weight of the cut graph that is rows `first` to `end` of a weight."""
        key = (weight, first, end, is_gathered)
        if key not in self._known:
            spec, rows = self.graph.weights[weight], self._rows(weight)
            row_bytes = spec.bytes // max(rows, 1)
            begin = self._begins[weight] + first * row_bytes
            if (first, end) != (0, rows):
                shape = (end - first, *spec.shape[1:])
                spec = WeightSpec(f"{spec.name}[{first}:{end}]", spec.dtype, shape)
            self._known[key] = Ref("weight", len(self.specs))
            self.specs.append(spec)
            self.pieces.append(Piece(begin, begin + spec.bytes, is_gathered))
        return self._known[key]

    def _gathered(self, node: Node) -> Ref | None:
        table = node.args[0] if node.operator == "embedding" else None
        if not isinstance(table, Ref) or table.kind != "weight":
            return None
        spec = self.graph.weights[table.index]
        if spec.bytes < GATHER_FROM_BYTES or len(spec.shape) != 2:
            return None
        rows = self._piece(table.index, 0, spec.shape[0], is_gathered=True)
        others = tuple(map_refs(arg, self._move) for arg in node.args[1:])
        return self._add(replace(node, args=(rows, *others)))

    def _split(self, node: Node) -> Ref | None:
        layer = layer_of(self.graph, node)
        if layer is None:
            return None
        spec = self.graph.weights[layer.weight]
        most_bytes = self.most_bytes if len(spec.shape) > 2 else _of_products(self.most_bytes)
        count = min(-(-spec.bytes // most_bytes), spec.shape[0])
        if count < 2:
            return None
        ranges = list(_ranges(spec, count))
        parts: list[Arg] = [self._part(node, layer, *rows) for rows in ranges]
        return self._add(Node("cat", (tuple(parts), layer.dim)))

    def _part(self, node: Node, layer: Layer, first: int, end: int) -> Ref:
        """The layer with some of its output rows."""
        weight: Ref = self._piece(layer.weight, first, end)
        for view in layer.views:
            weight = self._add(replace(view, args=(weight, *view.args[1:])))
        args = list(node.args)
        args[layer.weight_argument] = weight
        if layer.bias is not None:
            args[layer.bias_argument] = self._piece(layer.bias, first, end)
        given = {layer.weight_argument, layer.bias_argument if layer.bias is not None else -1}
        moved = [a if k in given else map_refs(a, self._move) for k, a in enumerate(args)]
        return self._add(Node(node.operator, tuple(moved), node.kwargs))


def _of_products(most_bytes: int) -> int:
    return min(most_bytes, max(_PRODUCT_BYTES, most_bytes // _PRODUCT_PARTS))


def _ranges(spec: WeightSpec, count: int) -> Iterator[tuple[int, int]]:
    """Rows in so many parts of about one size, that begin on cache lines where they can."""
    rows = spec.shape[0]
    step = -(-rows // count)
    aligned = ALIGNMENT_BYTES // math.gcd(ALIGNMENT_BYTES, spec.bytes // rows)
    if aligned < step:
        step = step // aligned * aligned
    for first in range(0, rows, step):
        yield first, min(first + step, rows)
