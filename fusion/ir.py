"""The graph of a function: operators, arguments, weights by index, rows symbolic. Data only."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

FORMAT = 1  # the version of graph.json; decode refuses any other

DTYPE_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
MEMORY_FORMATS = ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor (or an int) from elsewhere; `output` picks one of a node's several results."""

    kind: Literal["weight", "input", "node"]
    index: int
    output: int = 0


@dataclass(frozen=True, slots=True)
class DType:
    """A dtype as an argument."""

    name: str


@dataclass(frozen=True, slots=True)
class MemoryFormat:
    """A memory format as an argument."""

    name: str


# A tuple stands for a list.
Arg = None | bool | int | float | str | Ref | DType | MemoryFormat | tuple["Arg", ...]


class TensorSpec(NamedTuple):
    """An input or an output; None at dim 0 stands for the rows."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return DTYPE_BYTES[self.dtype] * math.prod(1 if d is None else d for d in self.shape)


class WeightSpec(NamedTuple):
    """A tensor of the weights file."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes of the dense tensor."""
        return DTYPE_BYTES[self.dtype] * math.prod(self.shape)


class Output(NamedTuple):
    """A result of the graph and where it comes from."""

    spec: TensorSpec
    value: Ref


@dataclass(frozen=True, slots=True)
class Node:
    """One operator call; `outputs` counts its results."""

    operator: str
    args: tuple[Arg, ...] = ()
    kwargs: tuple[tuple[str, Arg], ...] = ()
    outputs: int = 1

    def refs(self) -> Iterator[Ref]:
        """Every reference among the arguments, in order."""
        yield from refs_in(self.args)
        for _, value in self.kwargs:
            yield from refs_in(value)

    def rewire(self, move: Callable[[Ref], Arg]) -> "Node":
        """The same call with every reference moved."""
        args = tuple(map_refs(a, move) for a in self.args)
        kwargs = tuple((name, map_refs(a, move)) for name, a in self.kwargs)
        return Node(self.operator, args, kwargs, self.outputs)


@dataclass(frozen=True)
class Graph:
    """A function's computation. References of a node point to earlier nodes only."""

    inputs: tuple[TensorSpec, ...]
    weights: tuple[WeightSpec, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    fixed_rows: int | None = None  # set: the graph runs with exactly these rows
    batchable: bool = True  # False: rows of different jobs would influence each other

    def encode(self) -> bytes:
        """Canonical JSON: equal graphs give equal bytes."""
        return _dumps(_plain(self))

    @staticmethod
    def decode(data: bytes) -> "Graph":
        """Read and validate; raises GraphError naming the field."""
        from fusion.decode import decode  # it needs the records above

        return decode(data)

    @cached_property
    def architecture(self) -> str:
        """Hex sha256 of the graph without the names of inputs, weights and outputs."""
        return hashlib.sha256(_dumps(_plain(_nameless(self)))).hexdigest()

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(w.bytes for w in self.weights)

    def uses(self) -> dict[Ref, int]:
        """How often each value is used, by nodes and as an output."""
        counts: dict[Ref, int] = {}
        for ref in self._all_refs():
            counts[ref] = counts.get(ref, 0) + 1
        return counts

    def _all_refs(self) -> Iterator[Ref]:
        for node in self.nodes:
            yield from node.refs()
        yield from (o.value for o in self.outputs)


def refs_in(value: Arg) -> Iterator[Ref]:
    """Every reference in one argument, in order."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from refs_in(item)


def map_refs(value: Arg, move: Callable[[Ref], Arg]) -> Arg:
    """One argument with every reference moved."""
    if isinstance(value, Ref):
        return move(value)
    if isinstance(value, tuple):
        return tuple(map_refs(item, move) for item in value)
    return value


def _nameless(graph: Graph) -> Graph:
    return replace(
        graph,
        inputs=tuple(spec._replace(name="") for spec in graph.inputs),
        weights=tuple(spec._replace(name="") for spec in graph.weights),
        outputs=tuple(o._replace(spec=o.spec._replace(name="")) for o in graph.outputs),
    )


def _plain(graph: Graph) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "fixed_rows": graph.fixed_rows,
        "batchable": graph.batchable,
        "inputs": [list(spec) for spec in graph.inputs],
        "weights": [list(spec) for spec in graph.weights],
        "nodes": [_plain_node(node) for node in graph.nodes],
        "outputs": [[*o.spec, _plain_value(o.value)] for o in graph.outputs],
    }


def _plain_node(node: Node) -> list[Any]:
    plain: list[Any] = [node.operator, [_plain_value(a) for a in node.args]]
    if node.kwargs or node.outputs != 1:
        plain.append({name: _plain_value(a) for name, a in node.kwargs})
    if node.outputs != 1:
        plain.append(node.outputs)
    return plain


def _plain_value(value: Arg) -> Any:
    if isinstance(value, Ref):
        return {value.kind: [value.index, value.output] if value.output else value.index}
    if isinstance(value, DType):
        return {"dtype": value.name}
    if isinstance(value, MemoryFormat):
        return {"memory_format": value.name}
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return {"float": "inf" if value > 0 else "-inf"}  # JSON has no infinity; masks need it
    return value


def _dumps(plain: Any) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
