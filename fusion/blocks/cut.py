"""A graph cut so that weights are no larger than a piece, and each is asked for where it is used.

Three rewrites, none of which changes what is computed: wide linear layers and convolutions are
split by output rows (a piece is a range of the same bytes of the file) and their results
concatenated; rows of large embeddings are gathered from the file; views of weights move to the node
that reads them, so that none outlives its block. No torch: a plan is made without it too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fusion.ir import Arg, Graph, Node, Ref, WeightSpec, map_refs
from fusion.weights import WeightsIndex

# an embedding of fewer bytes is read whole: one read costs less than a call for each row
GATHER_FROM_BYTES = 2**20
# where the bytes of a piece begin: a cache line, as tensors of the file
ALIGNMENT_BYTES = 64

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
# the dimension of the outputs, from the end: of one input without rows too
_LAYERS = {
    "linear": -1,
    **dict.fromkeys(("conv1d", "conv1d.padding"), -2),
    **dict.fromkeys(("conv2d", "conv2d.padding"), -3),
    **dict.fromkeys(("conv3d", "conv3d.padding"), -4),
}
_GROUPS = 6  # the argument of a convolution
_TRANSPOSED = {
    "t": ((),),
    "numpy_T": ((),),
    "transpose.int": ((0, 1), (1, 0), (-1, -2), (-2, -1), (0, -1), (1, -2), (-1, 0), (-2, 1)),
    "permute": (((1, 0),),),
}


class Piece(NamedTuple):
    """Bytes of the file that a weight of the cut graph is; counted from the file's start."""

    begin: int
    end: int
    # its rows are gathered from the file, never loaded
    is_gathered: bool = False


class Cut(NamedTuple):
    """A graph whose weights are pieces, in its order; the same values come out."""

    graph: Graph
    pieces: tuple[Piece, ...]


def is_view(node: Node) -> bool:
    """Whether its result may be its argument's memory."""
    # of several tensors einsum makes a product
    return node.operator in VIEWS and (node.operator != "einsum" or len([*node.refs()]) == 1)


def cut(graph: Graph, index: WeightsIndex, most_bytes: int) -> Cut:
    """Split what is larger than `most_bytes`, where it can be split."""
    return _Cutting(graph, index, most_bytes).run()


def sink_views(graph: Graph) -> Graph:
    """Each view of a weight is made anew, directly before every node that reads it."""
    return _Sinking(graph).run()


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
        layer = _layer(self.graph, node)
        if layer is None:
            return None
        spec = self.graph.weights[layer.weight]
        count = min(-(-spec.bytes // self.most_bytes), spec.shape[0])
        if count < 2:
            return None
        ranges = list(_ranges(spec, count))
        parts: list[Arg] = [self._part(node, layer, *rows) for rows in ranges]
        return self._add(Node("cat", (tuple(parts), layer.dim)))

    def _part(self, node: Node, layer: _Layer, first: int, end: int) -> Ref:
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


class _Layer(NamedTuple):
    """A node whose outputs are independent rows of one weight."""

    weight: int
    weight_argument: int
    bias: int | None
    bias_argument: int
    # of the outputs
    dim: int
    # between the weight and the node
    views: tuple[Node, ...] = ()


def _layer(graph: Graph, node: Node) -> _Layer | None:
    """How a node can be split; None where it cannot."""
    if node.kwargs:
        return None
    if node.operator in _LAYERS:
        groups = node.args[_GROUPS] if len(node.args) > _GROUPS else 1
        return _plain_layer(graph, node, _LAYERS[node.operator]) if groups == 1 else None
    return _product(graph, node) if node.operator in ("mm", "matmul", "addmm") else None


def _plain_layer(graph: Graph, node: Node, dim: int) -> _Layer | None:
    """(input, weight, bias?): the weight's first dimension are the outputs."""
    weight, views = _source(graph, node.args[1])
    if weight is None or not all(_keeps_rows(view) for view in views):
        return None
    shape = graph.weights[weight].shape
    bias = node.args[2] if len(node.args) > 2 else None
    if len(shape) < 2 or not (bias is None or _is_row_of(graph, bias, shape)):
        return None
    return _Layer(weight, 1, bias.index if isinstance(bias, Ref) else None, 2, dim, views)


def _is_row_of(graph: Graph, bias: Arg, shape: tuple[int, ...]) -> bool:
    """Whether it has a number for each output: else it is broadcast, and has none to be split."""
    if not isinstance(bias, Ref) or bias.kind != "weight":
        return False
    return graph.weights[bias.index].shape == shape[:1]


def _product(graph: Graph, node: Node) -> _Layer | None:
    """x @ w.T, with or without a bias: the columns of w.T are the rows of w."""
    place = 2 if node.operator == "addmm" else 1
    weight, views = _source(graph, node.args[place])
    if weight is None or len(views) != 1 or not _is_transposed(views[0]):
        return None
    spec = graph.weights[weight]
    if len(spec.shape) != 2:
        return None
    if node.operator != "addmm":
        return _Layer(weight, place, None, 0, -1, views)
    bias = node.args[0]
    if not isinstance(bias, Ref) or not _is_row_of(graph, bias, spec.shape):
        return None
    return _Layer(weight, place, bias.index, 0, -1, views)


def _source(graph: Graph, value: Arg) -> tuple[int | None, tuple[Node, ...]]:
    """The weight that an argument is or is one view of, and that view."""
    if isinstance(value, Ref) and value.kind == "weight":
        return value.index, ()
    node = graph.nodes[value.index] if isinstance(value, Ref) and value.kind == "node" else None
    if node is None or node.operator not in _TRANSPOSED or node.kwargs:
        return None, ()
    source = node.args[0]
    if isinstance(source, Ref) and source.kind == "weight":
        return source.index, (node,)
    return None, ()


def _keeps_rows(view: Node) -> bool:
    """Whether the first dimension stays where it is."""
    order = view.args[1] if view.operator == "permute" else None
    return isinstance(order, tuple) and bool(order) and order[0] == 0


def _is_transposed(view: Node) -> bool:
    return view.args[1:] in _TRANSPOSED[view.operator]


def _ranges(spec: WeightSpec, count: int) -> Iterator[tuple[int, int]]:
    """Rows in so many parts of about one size, that begin on cache lines where they can."""
    rows = spec.shape[0]
    step = -(-rows // count)
    aligned = ALIGNMENT_BYTES // math.gcd(ALIGNMENT_BYTES, spec.bytes // rows)
    if aligned < step:
        step = step // aligned * aligned
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


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
