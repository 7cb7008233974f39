"""An ExportedProgram becomes a Graph: ATen calls by name, weights by index, asserts dropped."""

import operator as python
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node as FxNode
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree

from fusion.bindings import dtype_name
from fusion.errors import ExportError, GraphError
from fusion.ir import (
    DTYPE_BYTES,
    Arg,
    DType,
    Graph,
    MemoryFormat,
    Node,
    Output,
    Ref,
    TensorSpec,
    WeightSpec,
)
from fusion.operators import FACTORIES, names, operator
from fusion.signature import leaves
from fusion.validate import validate
from fusion.where import user_line

# Python functions that export leaves in a graph to compute with the number of rows.
_INTEGERS: dict[object, str] = {
    python.add: "int.add",
    python.sub: "int.sub",
    python.mul: "int.mul",
    python.floordiv: "int.floordiv",
    python.mod: "int.mod",
    python.neg: "int.neg",
    python.truediv: "int.truediv",
    torch.sym_float: "int.float",
    torch.sym_max: "int.max",
    torch.sym_min: "int.min",
    torch.sym_sum: "int.sum",
}
_PLACEMENT = frozenset({"layout", "device", "pin_memory"})  # they follow the inputs at run time
_CONVERSIONS = frozenset({"to.dtype", "to.dtype_layout", "to.device", "_to_copy"})
_WHITELIST = frozenset(names())
_WHAT_TO_DO = "Express it with supported operators (docs/fusion.md lists them)"


class Lowered(NamedTuple):
    """A graph and its weights by name, in the graph's order."""

    graph: Graph
    weights: dict[str, Tensor]
    notes: tuple[str, ...]


def lower(exported: ExportedProgram, input_names: Sequence[str] | None = None) -> Lowered:
    """Lower an exported program; raises ExportError naming the user's line where it is known."""
    exported, notes = _functional(exported)
    return _Lowering(exported, input_names).run(notes)


def _functional(exported: ExportedProgram) -> tuple[ExportedProgram, tuple[str, ...]]:
    """The same program without operators that write to their arguments."""
    if any(_is_mutable(node) for node in exported.graph.nodes):
        exported = exported.run_decompositions({})
    notes = []
    for spec in exported.graph_signature.output_specs:
        if spec.kind == OutputKind.BUFFER_MUTATION:
            raise ExportError(
                f"forward changes its buffer {spec.target!r}",
                "A function keeps no state between calls: pass the state in and return it",
            )
        if spec.kind == OutputKind.USER_INPUT_MUTATION:
            notes.append(f"forward writes to its input {spec.target!r}; callers do not see it")
    return exported, tuple(notes)


def _is_mutable(node: FxNode) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


class _Lowering:
    """The state of one lowering: where each value of the exported graph went."""

    def __init__(self, exported: ExportedProgram, input_names: Sequence[str] | None) -> None:
        self.exported = exported
        self.values: dict[FxNode, Arg] = {}
        self.nodes: list[Node] = []
        self.inputs: list[TensorSpec] = []
        self.weights: dict[str, Tensor] = {}
        self.ties: dict[tuple[object, ...], Ref] = {}  # tied tensors are one weight
        self.needed = _needed(exported)
        user_inputs = _user_inputs(exported)
        self.input_names = list(input_names or [node.name for node in user_inputs])
        self.rows = _rows(user_inputs, self.input_names)

    def run(self, notes: tuple[str, ...]) -> Lowered:
        self._placeholders()
        for node in self.exported.graph.nodes:
            if node.op == "get_attr" and node in self.needed:
                raise ExportError(
                    "torch.cond and other control flow inside the graph is not supported",
                    "Compute both sides and choose with torch.where",
                    user_line(node.meta.get("stack_trace")),
                )
            if node.op == "call_function" and node in self.needed:
                self.values[node] = self._call(node)
        graph = Graph(
            inputs=tuple(self.inputs),
            weights=tuple(weight_spec(name, w) for name, w in self.weights.items()),
            nodes=tuple(self.nodes),
            outputs=tuple(self._outputs()),
            fixed_rows=self.rows if type(self.rows) is int else None,
        )
        try:
            return Lowered(validate(graph), self.weights, notes)
        except GraphError as error:
            raise ExportError(str(error), _WHAT_TO_DO) from error

    def _placeholders(self) -> None:
        placeholders = [n for n in self.exported.graph.nodes if n.op == "placeholder"]
        for node, spec in zip(placeholders, self.exported.graph_signature.input_specs, strict=True):
            if spec.kind == InputKind.USER_INPUT:
                name = self.input_names[len(self.inputs)]
                self.values[node] = Ref("input", len(self.inputs))
                self.inputs.append(self._spec(f"input {name!r}", name, node.meta["val"]))
            elif node in self.needed:
                self.values[node] = self._weight(str(spec.target))

    def _weight(self, target: str) -> Ref:
        found = self.exported.state_dict.get(target)
        tensor = self.exported.constants[target] if found is None else found
        if not isinstance(tensor, Tensor):
            raise ExportError(f"the model holds {target!r}, which is no tensor", _WHAT_TO_DO)
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in self.ties or not tensor.numel():
            self.ties[key] = Ref("weight", len(self.weights))
            self.weights[target] = tensor.detach().cpu().contiguous()
        return self.ties[key]

    def _spec(self, what: str, name: str, value: Any) -> TensorSpec:
        if not isinstance(value, Tensor):
            raise ExportError(f"{what} is no tensor but {value!r:.80}", "Make it a tensor")
        first, *rest = value.shape or (None,)
        if first is None or not _same_size(first, self.rows):
            shape = tuple(map(str, value.shape))
            problem = f"{what} of shape {shape} does not have the rows as dimension 0"
            raise ExportError(problem, "Dimension 0 of every input and output is the rows")
        if not all(type(d) is int for d in rest):
            raise ExportError(f"{what} has a second symbolic dimension", "Only rows may vary")
        if dtype_name(value.dtype) not in DTYPE_BYTES:
            raise ExportError(f"{what} has dtype {value.dtype}", f"Use one of {list(DTYPE_BYTES)}")
        return TensorSpec(name, dtype_name(value.dtype), (None, *rest))

    def _outputs(self) -> list[Output]:
        *_, last = self.exported.graph.nodes
        specs = self.exported.graph_signature.output_specs
        values = [
            value
            for value, spec in zip(last.args[0], specs, strict=True)
            if spec.kind == OutputKind.USER_OUTPUT
        ]
        outputs = []
        for name, value in zip(output_names(self.exported), values, strict=True):
            if value is None:
                continue  # Hugging Face models return None for what was not asked for
            meta = value.meta["val"] if isinstance(value, FxNode) else value
            spec = self._spec(f"output {name!r}", name, meta)
            ref = self.values[value]
            assert isinstance(ref, Ref)
            outputs.append(Output(spec, ref))
        return outputs

    def _call(self, node: FxNode) -> Arg:
        if node.target is python.getitem:
            source, output = node.args
            ref = self.values[source]  # type: ignore[index] # getitem's first argument is a node
            assert isinstance(ref, Ref)
            return Ref("node", ref.index, int(output))  # type: ignore[arg-type] # and its second an int
        name = _operator_name(node)
        location = user_line(node.meta.get("stack_trace"))
        if name not in _WHITELIST | _CONVERSIONS:
            raise ExportError(f"operator {name!r} is not supported", _WHAT_TO_DO, location)
        value = node.meta.get("val")
        if free_unbacked_symbols(value):
            raise ExportError(
                f"the shape of the result of {name!r} depends on data",
                "Keep shapes independent of values, for example with torch.where",
                location,
            )
        args = tuple(self._argument(a) for a in node.args)
        kwargs = {k: self._argument(v) for k, v in node.kwargs.items() if k not in _PLACEMENT}
        self.nodes.append(_normal(name, args, kwargs, node))
        return Ref("node", len(self.nodes) - 1)

    def _argument(self, value: Any) -> Arg:
        if isinstance(value, FxNode):
            return self.values[value]
        if isinstance(value, list | tuple):
            return tuple(self._argument(item) for item in value)
        if isinstance(value, torch.dtype):
            return DType(dtype_name(value))
        if isinstance(value, torch.memory_format):
            return MemoryFormat(str(value).removeprefix("torch."))
        if isinstance(value, torch.device | torch.layout):
            return None  # of a conversion: dropped there
        assert value is None or type(value) in (bool, int, float, str), value
        return value  # type: ignore[no-any-return] # narrowed by the assert


def weight_spec(name: str, tensor: Tensor) -> WeightSpec:
    """The spec of a tensor."""
    return WeightSpec(name, dtype_name(tensor.dtype), tuple(tensor.shape))


def output_names(exported: ExportedProgram) -> list[str]:
    """`output`, `output_0`.., or the keys of the dict that forward returns."""
    spec = exported.call_spec.out_spec
    assert spec is not None
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    return [name for name, _ in sorted(leaves("", tree), key=lambda leaf: leaf[1])]


def _needed(exported: ExportedProgram) -> set[FxNode]:
    """The nodes that outputs depend on: asserts and unused sizes are left out."""
    *_, last = exported.graph.nodes
    needed: set[FxNode] = set()
    waiting = list(last.all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return needed


def _user_inputs(exported: ExportedProgram) -> list[FxNode]:
    placeholders = [n for n in exported.graph.nodes if n.op == "placeholder"]
    specs = exported.graph_signature.input_specs
    return [
        node
        for node, spec in zip(placeholders, specs, strict=True)
        if spec.kind == InputKind.USER_INPUT
    ]


def _rows(user_inputs: Sequence[FxNode], input_names: Sequence[str]) -> Any:
    """Dimension 0 of the inputs: an int where it is fixed, a SymInt otherwise."""
    for node, name in zip(user_inputs, input_names, strict=True):
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.dim() > 0:
            return value.shape[0]
        raise ExportError(f"input {name!r} is {value!r:.80}", "Dimension 0 of inputs is the rows")
    raise ExportError("forward takes no inputs", "A function needs at least one tensor")


def _same_size(a: Any, b: Any) -> bool:
    if type(a) is int or type(b) is int:
        return type(a) is type(b) and bool(a == b)
    return bool(a.node.expr == b.node.expr)  # compared as expressions: == would add a guard


def _operator_name(node: FxNode) -> str:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        namespace, _, base = target._schema.name.partition("::")
        overload = target._schema.overload_name
        name = f"{base}.{overload}" if overload else base
        return name if namespace == "aten" else f"{namespace}::{name}"
    found = _INTEGERS.get(target)
    return found or re.sub(r"\W+", "_", getattr(target, "__name__", str(target)))


def _normal(name: str, args: tuple[Arg, ...], kwargs: dict[str, Arg], node: FxNode) -> Node:
    """One spelling for calls that mean the same."""
    rewrite = _REWRITES.get(name)
    if rewrite is not None:
        return rewrite(args, kwargs, node)
    if name in FACTORIES:  # the default dtype is a setting of the process that exported
        kwargs["dtype"] = DType(dtype_name(node.meta["val"].dtype))
    op = operator(name)
    outputs = len(node.meta["val"]) if op.is_list else len(op.results)
    kept = tuple(sorted((k, v) for k, v in kwargs.items() if v is not None))
    return Node(name, args, kept, outputs)


def _conversion(args: tuple[Arg, ...], kwargs: dict[str, Arg], node: FxNode) -> Node:
    source = node.args[0]
    assert isinstance(source, FxNode)
    target = node.meta["val"].dtype
    layout = kwargs.get("memory_format")
    kept = () if layout is None else (("memory_format", layout),)
    if target != source.meta["val"].dtype:
        return Node("to.dtype", (args[0], DType(dtype_name(target))), kept)
    return Node("clone", args[:1], kept) if kept else Node("alias", args[:1])


def _clone(args: tuple[Arg, ...], kwargs: dict[str, Arg], _node: FxNode) -> Node:
    layout = kwargs.get("memory_format")
    if layout is None:  # nothing in the graph writes: a copy is the same as its source
        return Node("alias", args[:1])
    return Node("clone", args[:1], (("memory_format", layout),))


def _batch_norm(args: tuple[Arg, ...], _kwargs: dict[str, Arg], _node: FxNode) -> Node:
    x, weight, bias, mean, variance, momentum, eps = args
    return Node("batch_norm", (x, weight, bias, mean, variance, False, momentum, eps, False))


_Rewrite = Callable[[tuple[Arg, ...], dict[str, Arg], FxNode], Node]
_REWRITES: dict[str, _Rewrite] = {
    "clone": _clone,
    "_native_batch_norm_legit_no_training": _batch_norm,
} | dict.fromkeys(_CONVERSIONS, _conversion)
