"""A fused DAG as boxes and arrows: what each member runs, and what runs once for several."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from deploy.errors import Undrawable
from fusion.ir import Graph, Node, Ref
from fusion.merge import Merged

# They move no bytes: what they hand on is another look at what they were given.
VIEWS = frozenset(
    {"view", "reshape", "permute", "transpose.int", "t", "unsqueeze", "squeeze", "squeeze.dim",
     "squeeze.dims", "expand", "select.int", "slice.Tensor", "flatten.using_ints", "view_as"}
)  # fmt: skip


class Box(NamedTuple):
    """An input, an operator or an output."""

    kind: Literal["input", "operator", "output"]
    title: str
    note: str
    # members whose outputs depend on it; several share it
    owners: tuple[int, ...]


class Drawing(NamedTuple):
    """Arrows are pairs of places in `boxes`, from earlier to later."""

    boxes: tuple[Box, ...]
    arrows: tuple[tuple[int, int], ...]


class Member(NamedTuple):
    """A function of the group, its weights by what they contain."""

    graph: Graph
    weight_keys: tuple[str, ...]


def members_of(functions: Sequence[Mapping[str, Any]]) -> list[Member]:
    """Read answers of GET /v1/functions/NAME/graph; raises Undrawable."""
    from fusion.errors import FusionError

    members = []
    for function in functions:
        name = f"{function['name']}@{function['version']}"
        try:
            graph = Graph.decode(json.dumps(function["graph"]).encode())
            keys = tuple(function["weights"][spec.name] for spec in graph.weights)
        except (FusionError, KeyError) as error:
            raise Undrawable(f"{name}: its graph is not understood: {error}") from error
        members.append(Member(graph, keys))
    return members


def fused(members: Sequence[Member], is_apart: bool = False) -> Merged:
    """One graph of all: what they have in common once, unless they are to run apart."""
    from fusion.prefix import merge_members  # torch

    keys = [None if is_apart else member.weight_keys for member in members]
    return merge_members([member.graph for member in members], keys)


def draw(merged: Merged, is_whole: bool = False) -> Drawing:
    """Boxes in order of computation; without views, row counts and constants unless `is_whole`."""
    graph = merged.graph
    shown = [is_whole or _is_shown(node) for node in graph.nodes]
    feeding = _Feeding(graph, shown)
    boxes: list[Box] = []
    places: dict[Ref, int] = {}
    arrows: list[tuple[int, int]] = []

    def add(box: Box, refs: Iterable[Ref]) -> int:
        boxes.append(box)
        sources = {places[source] for ref in refs for source in feeding.of(ref)}
        arrows.extend((source, len(boxes) - 1) for source in sorted(sources))
        return len(boxes) - 1

    owners = _owners(merged)
    for index, spec in enumerate(graph.inputs):
        member, _, name = spec.name.partition(".")
        box = Box("input", name, _shape(spec.shape), (int(member),))
        places[Ref("input", index)] = add(box, ())
    for index, node in enumerate(graph.nodes):
        ref = Ref("node", index)
        if shown[index] and (is_whole or feeding.depends_on_inputs(index)):
            note = _weights_note(graph, feeding.weights_of(index))
            box = Box("operator", node.operator.partition(".")[0], note, owners.get(ref, ()))
            places[ref] = add(box, node.refs())
    for output in graph.outputs:
        member, _, name = output.spec.name.partition(".")
        add(Box("output", name, _shape(output.spec.shape), (int(member),)), [output.value])
    return Drawing(tuple(boxes), tuple(arrows))


def shared_operators(drawing: Drawing) -> int:
    """How many operators run once for several members."""
    return sum(box.kind == "operator" and len(box.owners) > 1 for box in drawing.boxes)


class _Feeding:
    """Which inputs and shown nodes a value comes from, through nodes that are not shown."""

    def __init__(self, graph: Graph, shown: Sequence[bool]) -> None:
        self._shown = shown
        self._sources: list[frozenset[Ref]] = []
        self._weights: list[tuple[int, ...]] = []
        self._is_live: list[bool] = []
        for node in graph.nodes:
            refs = [*node.refs()]
            self._is_live.append(any(self._lives(ref) for ref in refs))
            # a number of rows is no data
            passed = () if _is_number(node) else refs
            self._sources.append(frozenset(s for ref in passed for s in self.of(ref)))
            self._weights.append(tuple(w for ref in refs for w in self._weights_in(ref)))

    def of(self, ref: Ref) -> frozenset[Ref]:
        """Boxes from which arrows go to whoever uses this value."""
        if ref.kind == "weight" or not self._lives(ref):
            return frozenset()
        if ref.kind == "input":
            return frozenset({ref})
        if self._shown[ref.index]:
            return frozenset({Ref("node", ref.index)})
        return self._sources[ref.index]

    def depends_on_inputs(self, index: int) -> bool:
        """Whether this node computes anything that calls differ in."""
        return self._is_live[index]

    def weights_of(self, index: int) -> tuple[int, ...]:
        """Weights a node takes, views of them included."""
        return self._weights[index]

    def _lives(self, ref: Ref) -> bool:
        return ref.kind == "input" or (ref.kind == "node" and self._is_live[ref.index])

    def _weights_in(self, ref: Ref) -> tuple[int, ...]:
        if ref.kind == "weight":
            return (ref.index,)
        is_constant = ref.kind == "node" and not self._is_live[ref.index]
        return self._weights[ref.index] if is_constant else ()


def _is_shown(node: Node) -> bool:
    return not _is_number(node) and node.operator not in VIEWS


def _is_number(node: Node) -> bool:
    return node.operator.startswith(("sym_size.", "int."))


def _owners(merged: Merged) -> dict[Ref, tuple[int, ...]]:
    """Per node the members whose outputs depend on it."""
    found: dict[Ref, set[int]] = {}
    for output in merged.graph.outputs:
        member = int(output.spec.name.partition(".")[0])
        found.setdefault(_whole(output.value), set()).add(member)
    for index in reversed(range(len(merged.graph.nodes))):
        members = found.get(Ref("node", index), set())
        for ref in merged.graph.nodes[index].refs():
            found.setdefault(_whole(ref), set()).update(members)
    # the parts of a split belong to one member each, the split to all
    return {ref: tuple(sorted(members)) for ref, members in found.items()}


def _whole(ref: Ref) -> Ref:
    return Ref(ref.kind, ref.index)


def _weights_note(graph: Graph, weights: Iterable[int]) -> str:
    specs = [graph.weights[index] for index in weights]
    return _shape(max(specs, key=lambda spec: spec.bytes).shape) if specs else ""


def _shape(shape: Iterable[int | None]) -> str:
    sizes = ", ".join("rows" if size is None else str(size) for size in shape)
    return f"[{sizes}]"
