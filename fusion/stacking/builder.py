"""What rules write the stacked graph with: values of the members, in one of two layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from fusion.ir import Arg, Graph, Node, Ref
from fusion.operators import operator

# front: [members, *shape]; channels: [rows, members * channels, ...], as grouped operators want it
Layout = Literal["front", "channels"]


class NotStackable(Exception):
    """There is no rule for this use of an operator."""


class Stacked(NamedTuple):
    """Results of a rule: one value of all members for each result of its node."""

    values: tuple[Ref, ...]
    layout: Layout = "front"


class Builder:
    """Nodes of the stacked graph so far, and where each value of the members' graph is in it.

    Values that depend on neither weights nor inputs but through sizes are the same for all
    members: they are computed once, as they were.
    """

    def __init__(self, graph: Graph, values: dict[Ref, Any]) -> None:
        self.nodes: list[Node] = []
        self._values = values  # shapes and dtypes of one member's
        self._same: dict[Ref, Ref] = {}
        self._stacked: dict[tuple[Ref, Layout], Ref] = {}
        self._native: dict[Ref, Layout] = {}
        for kind, specs in (("input", graph.inputs), ("weight", graph.weights)):
            for index in range(len(specs)):
                ref = Ref(kind, index)  # type: ignore[arg-type]  # one of its literals
                self._set(ref, "front", ref)
        self.members = self.emit("sym_size.int", Ref("input", 0), 0)

    def emit(self, operator_name: str, *args: Arg) -> Ref:
        """Append a node of one result."""
        return self.append(Node(operator_name, args))

    def append(self, node: Node) -> Ref:
        """Append a node; its first result."""
        self.nodes.append(node)
        return Ref("node", len(self.nodes) - 1)

    def copy(self, index: int, node: Node) -> None:
        """A node that is the same for all members."""
        self.nodes.append(node.rewire(self._same.__getitem__))
        for k in range(node.outputs):
            self._same[Ref("node", index, k)] = Ref("node", len(self.nodes) - 1, k)

    def set(self, index: int, found: Stacked) -> None:
        """Note what a rule has made of the node of this index."""
        for k, value in enumerate(found.values):
            self._set(Ref("node", index, k), found.layout, value)

    def set_same(self, index: int, value: Ref) -> None:
        """Note that a node's result is the same for all members."""
        self._same[Ref("node", index)] = value

    def _set(self, ref: Ref, layout: Layout, value: Ref) -> None:
        self._stacked[ref, layout] = value
        self._native[ref] = layout

    def is_stacked(self, value: Arg) -> bool:
        """Whether members have a value each."""
        return isinstance(value, Ref) and value in self._native

    def native(self, ref: Ref) -> Layout:
        """The layout in which the value was made."""
        return self._native[ref]

    def size(self, ref: Ref, dim: int) -> int:
        """The size of one member's value, as probed."""
        return int(self._values[ref].shape[dim])

    def dtype(self, ref: Ref) -> Any:
        """The dtype of one member's value."""
        return self._values[ref].dtype

    def rank(self, ref: Ref) -> int:
        """Dimensions of one member's value."""
        return int(self._values[ref].dim())

    def is_tensor(self, ref: Ref) -> bool:
        """Whether it is no number."""
        return hasattr(self._values[ref], "dim")

    def same(self, value: Arg) -> Arg:
        """An argument that is the same for all members; NotStackable for one that is not."""
        if isinstance(value, tuple):
            return tuple(self.same(item) for item in value)
        if not isinstance(value, Ref):
            return value
        if value not in self._same:
            raise NotStackable("members have a value each")
        return self._same[value]

    def front(self, value: Arg) -> Ref:
        """A value of all members, [members, *shape]; NotStackable where they share it."""
        ref = self._member_value(value)
        if (ref, "front") not in self._stacked:
            parts = self.emit("unflatten.int", self.channels(ref), 1, (self.members, -1))
            self._stacked[ref, "front"] = self.emit("transpose.int", parts, 0, 1)
        return self._stacked[ref, "front"]

    def channels(self, value: Arg) -> Ref:
        """The same as [rows, members * channels, ...]; a view where it was made so."""
        ref = self._member_value(value)
        if self.rank(ref) < 2:
            raise NotStackable("no channels")
        if (ref, "channels") not in self._stacked:
            rows_first = self.emit("transpose.int", self.front(ref), 0, 1)
            self._stacked[ref, "channels"] = self.emit("flatten.using_ints", rows_first, 1, 2)
        return self._stacked[ref, "channels"]

    def _member_value(self, value: Arg) -> Ref:
        if not isinstance(value, Ref) or value not in self._native:
            raise NotStackable("members share this value")
        return value

    def aligned(self, value: Arg, rank: int) -> Arg:
        """For broadcasting with values of this rank: missing dimensions come after the members."""
        if not isinstance(value, Ref) or not self.is_stacked(value):
            return self.same(value)
        found = self.front(value)
        for _ in range(rank - self.rank(value)):
            found = self.emit("unsqueeze", found, 1)
        return found

    def flat(self, ref: Ref, kept: int) -> Ref:
        """[members, all other dimensions in one, the last `kept`]."""
        last = self.rank(ref) - kept
        found = self.front(ref)
        return found if last == 1 else self.emit("flatten.using_ints", found, 1, last)

    def unflat(self, found: Ref, like: Ref, kept: int) -> Ref:
        """Undo `flat` with the dimensions that `like` has before its last `kept`."""
        dims = self.rank(like) - kept
        if dims == 1:
            return found
        source, first = (self.front(like), 1) if self.is_stacked(like) else (self._same[like], 0)
        sizes = tuple(self.emit("sym_size.int", source, first + k) for k in range(dims))
        return self.emit("unflatten.int", found, 1, sizes)


Rule = Callable[[Builder, Node], Stacked]


def first(node: Node) -> Ref:
    """What the node works on."""
    found = node.args[0]
    assert isinstance(found, Ref), node
    return found


def bound(node: Node, defaults: dict[str, Arg] | None = None) -> dict[str, Arg]:
    """The arguments of a node in the order of its schema, defaults for some not given."""
    parameters = operator(node.operator).parameters
    given = {p.name: value for p, value in zip(parameters, node.args, strict=False)}
    given = {**(defaults or {}), **given, **dict(node.kwargs)}
    return {p.name: given[p.name] for p in parameters if p.name in given}


def by_place(node: Node, arguments: dict[str, Arg]) -> Node:
    """The node with these arguments, by place as far as there is no gap."""
    places: list[Arg] = []
    for parameter in operator(node.operator).parameters:
        if parameter.is_keyword_only or parameter.name not in arguments:
            break
        places.append(arguments[parameter.name])
    by_name = tuple(arguments.items())[len(places) :]
    return Node(node.operator, tuple(places), by_name, node.outputs)


def rebuilt(builder: Builder, node: Node, arguments: dict[str, Arg]) -> Stacked:
    """The node with other arguments; one value per result."""
    made = builder.append(by_place(node, arguments))
    return Stacked(tuple(Ref("node", made.index, k) for k in range(node.outputs)))


def tensors(refs: Iterable[Ref], builder: Builder) -> list[Ref]:
    """Those that are no numbers."""
    return [ref for ref in refs if builder.is_tensor(ref)]
