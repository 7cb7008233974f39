"""Which inputs of a graph are indices, and into how many rows: found from the graph, without torch.

On CPU an index outside of its table raises; on CUDA it ends the process. An input is followed
through operators that hand its values on. What a graph computes into an index is not followed.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fusion.ir import Arg, Graph, Node, Ref
from fusion.operators import operator

# They return the values of their first argument, or some of them.
_HANDING_ON = frozenset(
    {"view", "reshape", "flatten.using_ints", "unflatten.int", "transpose.int", "permute", "t"}
    | {"squeeze", "squeeze.dim", "squeeze.dims", "unsqueeze", "expand", "expand_as", "view_as"}
    | {"reshape_as", "broadcast_to", "movedim.int", "swapaxes", "numpy_T", "_unsafe_view"}
    | {"chunk", "split.Tensor", "split_with_sizes", "unbind.int", "slice.Tensor", "select.int"}
    | {"narrow", "roll", "flip", "repeat", "repeat_interleave.self_int", "tile", "contiguous"}
    | {"clone", "alias", "detach", "lift_fresh_copy"}
)
_INTEGERS = frozenset({"int64", "int32", "int16", "int8", "uint8"})


class IndexRange(NamedTuple):
    """An input whose values have to lie in `low <= value < high`."""

    input: str
    low: int
    high: int


class _Table(NamedTuple):
    """What one operator reads by index."""

    indices: Arg
    low: int
    high: int


def index_ranges(graph: Graph) -> tuple[IndexRange, ...]:
    """The narrowest range of each input that is used as an index into a known number of rows."""
    sources: dict[Ref, int] = {
        Ref("input", i): i for i, spec in enumerate(graph.inputs) if spec.dtype in _INTEGERS
    }
    found: dict[int, tuple[int, int]] = {}
    for at, node in enumerate(graph.nodes):
        _hand_on(sources, at, node)
        for indices, low, high in _tables(graph, node):
            source = sources.get(indices) if isinstance(indices, Ref) else None
            if source is not None:
                least, most = found.get(source, (low, high))
                found[source] = max(least, low), min(most, high)
    return tuple(IndexRange(graph.inputs[i].name, *found[i]) for i in sorted(found))


def _hand_on(sources: dict[Ref, int], at: int, node: Node) -> None:
    first = _bound(node).get("self")
    is_cast = node.operator == "to.dtype" and _bound(node)["dtype"].name in ("int64", "int32")  # type: ignore[union-attr]  # validated
    if isinstance(first, Ref) and first in sources and (is_cast or node.operator in _HANDING_ON):
        for output in range(node.outputs):
            sources[Ref("node", at, output)] = sources[first]


def _tables(graph: Graph, node: Node) -> Iterator[_Table]:
    """What the node reads by index, where the number of rows is known."""
    bound = _bound(node)
    if node.operator == "embedding":
        for rows in _size(graph, bound["weight"], 0):
            yield _Table(bound["indices"], 0, rows)
    elif node.operator in ("index_select", "gather"):
        for rows in _size(graph, bound["self"], bound["dim"]):
            yield _Table(bound["index"], 0, rows)
    elif node.operator == "index.Tensor" and isinstance(bound["indices"], tuple):
        for dim, indices in enumerate(bound["indices"]):
            for rows in _size(graph, bound["self"], dim):
                yield _Table(indices, -rows, rows)
    elif node.operator == "one_hot":
        classes = bound.get("num_classes", -1)
        if isinstance(classes, int) and classes > 0:
            yield _Table(bound["self"], 0, classes)


def _size(graph: Graph, table: Arg, dim: Arg) -> Iterable[int]:
    """The size of a dimension of a weight or an input; nothing where only a run would tell."""
    if not isinstance(table, Ref) or table.kind == "node" or not isinstance(dim, int):
        return ()
    shape: tuple[int | None, ...] = (
        graph.weights[table.index].shape
        if table.kind == "weight"
        else graph.inputs[table.index].shape
    )
    size = shape[dim] if -len(shape) <= dim < len(shape) else None
    return () if size is None else (size,)


def _bound(node: Node) -> dict[str, Arg]:
    """Arguments by name."""
    names = [parameter.name for parameter in operator(node.operator).parameters]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
