"""Is a graph sound? Operators known, arguments of the right type, references backwards, bounds."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fusion.errors import GraphError, UnsupportedOperator
from fusion.ir import (
    DTYPE_BYTES,
    MEMORY_FORMATS,
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
from fusion.operators import (
    ADDING,
    EQUATION,
    FIXED,
    GROWING,
    SIZED,
    STRINGS,
    Operator,
    Parameter,
    is_listed,
    operator,
)

MAX_NODES = 50_000
MAX_TENSORS = 50_000  # weights, inputs or outputs
MAX_ITEMS = 4_096  # of a list argument, or results of a node
MAX_NAME = 256
MAX_DIMS = 8
MAX_TENSOR_BYTES = 1 << 40
MAX_LITERAL_ELEMENTS = 1 << 31
INT64 = 1 << 63

Spec = TensorSpec | WeightSpec


class _Values(NamedTuple):
    """What a reference may point to at some node."""

    counts: dict[str, int]  # kind -> how many exist so far
    results: list[tuple[str, int]]  # per earlier node: type and number of results


def validate(graph: Graph) -> Graph:
    """The graph itself; raises GraphError or UnsupportedOperator naming the field."""
    _check_size("nodes", graph.nodes, MAX_NODES)
    _check_specs("inputs", graph.inputs, rows=True)
    _check_specs("weights", graph.weights, rows=False)
    _check_specs("outputs", [o.spec for o in graph.outputs], rows=True)
    if not graph.inputs or not graph.outputs:
        raise GraphError("inputs" if not graph.inputs else "outputs", "must not be empty")
    if graph.fixed_rows is not None and not 1 <= graph.fixed_rows < INT64:
        raise GraphError("fixed_rows", f"must be at least 1, got {graph.fixed_rows}")
    _check_nodes(graph)
    return graph


def _check_nodes(graph: Graph) -> None:
    counts = {"weight": len(graph.weights), "input": len(graph.inputs), "node": 0}
    values = _Values(counts, [])
    for index, node in enumerate(graph.nodes):
        field = f"nodes[{index}]"
        op = _operator(field, node)
        _check_call(field, op, node, values)
        values.results.append((op.result_type, node.outputs))
        counts["node"] += 1
    for index, output in enumerate(graph.outputs):
        _check_output(f"outputs[{index}]", output, values)


def _operator(field: str, node: Node) -> Operator:
    if not is_listed(node.operator):
        raise UnsupportedOperator(f"{field}.operator", node.operator)
    op = operator(node.operator)
    expected = node.outputs if op.is_list else len(op.results)
    if node.outputs != expected or not 1 <= node.outputs <= MAX_ITEMS:
        raise GraphError(f"{field}.outputs", f"{op.name} has {expected}, got {node.outputs}")
    return op


def _check_output(field: str, output: Output, values: _Values) -> None:
    if _check_ref(field, output.value, values) != "Tensor":
        raise GraphError(field, "must refer to a tensor")


def _check_call(field: str, op: Operator, node: Node, values: _Values) -> None:
    bound = _bind(field, op, node)
    for parameter in op.parameters:
        place = f"{field}.{op.name}.{parameter.name}"
        if parameter.name in bound:
            _check_argument(place, op, parameter, bound[parameter.name], values)
        elif not parameter.has_default:
            raise GraphError(place, "is missing")
    _check_sizes(field, op, bound)


def _bind(field: str, op: Operator, node: Node) -> dict[str, Arg]:
    positional = [p.name for p in op.parameters if not p.is_keyword_only]
    if len(node.args) > len(positional):
        raise GraphError(
            f"{field}.args", f"{op.name} takes {len(positional)}, got {len(node.args)}"
        )
    bound = dict(zip(positional, node.args, strict=False))
    known = {p.name for p in op.parameters}
    for name, value in node.kwargs:
        if name not in known or name in bound:
            problem = "is given twice" if name in bound else "is unknown"
            raise GraphError(f"{field}.kwargs", f"{op.name}: {name!r:.80} {problem}")
        bound[name] = value
    return bound


def _check_argument(
    field: str, op: Operator, parameter: Parameter, value: Arg, values: _Values
) -> None:
    key = (op.name, parameter.name)
    if key in FIXED and value != FIXED[key]:
        raise GraphError(field, f"must be {FIXED[key]!r}, got {value!r:.80}")
    if value is None:
        if not parameter.is_optional:
            raise GraphError(field, f"must be {parameter.type}, got None")
    elif parameter.is_list and isinstance(value, tuple):
        _check_size(field, value, MAX_ITEMS)
        for i, item in enumerate(value):
            if not (item is None and parameter.has_optional_items):
                _check_value(f"{field}[{i}]", parameter, item, values)
    elif parameter.is_list and parameter.type == "Tensor":
        raise GraphError(field, f"must be a list of tensors, got {value!r:.80}")
    else:  # torch reads a single int as a list of it
        _check_value(field, parameter, value, values)


def _check_value(field: str, parameter: Parameter, value: Arg, values: _Values) -> None:
    if isinstance(value, Ref):
        found = _check_ref(field, value, values)
        is_promoted = found == "SymInt" and parameter.name == "other"
        if found not in _REF_TYPES.get(parameter.type, ()) and not is_promoted:
            raise GraphError(field, f"must be {parameter.type}, got a reference to {found}")
    elif parameter.type == "Tensor" and parameter.name == "other" and _is_number(value):
        _check_number(field, value)  # torch promotes a number beside a tensor
    else:
        _check_literal(field, parameter, value)


_REF_TYPES = {"Tensor": ("Tensor",), "SymInt": ("SymInt",), "Scalar": ("SymInt", "float")}
_LITERALS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "SymInt": (int,),
    "bool": (bool,),
    "float": (float, int),
    "Scalar": (bool, int, float),
    "str": (str,),
    "ScalarType": (DType,),
    "MemoryFormat": (MemoryFormat,),
}


def _check_literal(field: str, parameter: Parameter, value: Arg) -> None:
    allowed = _LITERALS.get(parameter.type, ())
    if type(value) not in allowed:  # exact: a bool is no int here
        raise GraphError(field, f"must be {parameter.type}, got {value!r:.80}")
    if isinstance(value, str):
        _check_string(field, parameter.name, value)
    elif isinstance(value, DType) and value.name not in DTYPE_BYTES:
        raise GraphError(field, f"unknown dtype {value.name!r:.80}")
    elif isinstance(value, MemoryFormat) and value.name not in MEMORY_FORMATS:
        raise GraphError(field, f"unknown memory format {value.name!r:.80}")
    elif _is_number(value):
        _check_number(field, value)


def _check_string(field: str, name: str, value: str) -> None:
    is_equation = name == "equation" and EQUATION.fullmatch(value)
    if value not in STRINGS.get(name, ()) and not is_equation:
        raise GraphError(field, f"must be one of {STRINGS.get(name, ())}, got {value!r:.80}")


def _is_number(value: Arg) -> bool:
    return isinstance(value, int | float)


def _check_number(field: str, value: Arg) -> None:
    assert isinstance(value, int | float)
    if isinstance(value, float) and math.isnan(value):
        raise GraphError(field, "must be a number, got nan")
    if isinstance(value, int) and not -INT64 <= value < INT64:
        raise GraphError(field, "must fit in 64 bits")


def _check_ref(field: str, ref: Ref, values: _Values) -> str:
    """The type of what `ref` points to."""
    count = values.counts[ref.kind]
    if not 0 <= ref.index < count:
        problem = f"refers to {ref.kind} {ref.index}, only {count} come before it"
        raise GraphError(field, problem)
    found, outputs = values.results[ref.index] if ref.kind == "node" else ("Tensor", 1)
    if not 0 <= ref.output < outputs:
        raise GraphError(field, f"refers to result {ref.output} of {outputs}")
    return found


def _check_sizes(field: str, op: Operator, bound: dict[str, Arg]) -> None:
    """Sizes that are literals must not be absurd, whatever the operator is given."""
    sizes = [size for name in GROWING.get(op.name, ()) for size in _numbers(bound, name)]
    if op.name in SIZED and any(size < 0 for size in sizes):
        raise GraphError(field, f"{op.name} of a negative size")
    elements = math.prod(max(abs(size), 1.0) for size in sizes)
    elements = max([elements, *(abs(size) for name in ADDING for size in _numbers(bound, name))])
    if op.name in SIZED:
        ends = [*_numbers(bound, "start"), *_numbers(bound, "end")]
        elements = max([elements, *(abs(end) / _step(bound) for end in ends)])
    if elements > MAX_LITERAL_ELEMENTS:
        raise GraphError(field, f"{op.name} would make {elements:.0e} elements")


def _numbers(bound: dict[str, Arg], name: str) -> list[float]:
    """The literals among the values of an argument."""
    value = bound.get(name)
    items = value if isinstance(value, tuple) else (value,)
    return [float(item) for item in items if isinstance(item, int | float)]


def _step(bound: dict[str, Arg]) -> float:
    step = bound.get("step", 1)
    if "steps" in bound:  # linspace: the ends say nothing about the size
        return math.inf
    return abs(step) if isinstance(step, int | float) and step else 1


def _check_specs(field: str, specs: Sequence[Spec], *, rows: bool) -> None:
    _check_size(field, specs, MAX_TENSORS)
    seen: set[str] = set()
    for index, spec in enumerate(specs):
        _check_spec(f"{field}[{index}]", spec, rows)
        if spec.name in seen:
            raise GraphError(f"{field}[{index}].name", f"{spec.name!r} is given twice")
        seen.add(spec.name)


def _check_spec(field: str, spec: Spec, rows: bool) -> None:
    if not 1 <= len(spec.name) <= MAX_NAME or not spec.name.isprintable():
        raise GraphError(f"{field}.name", f"must be 1 to {MAX_NAME} printable characters")
    if spec.dtype not in DTYPE_BYTES:
        raise GraphError(f"{field}.dtype", f"unknown dtype {spec.dtype!r:.80}")
    dims: Iterable[int | None] = spec.shape
    if len(spec.shape) > MAX_DIMS:
        raise GraphError(f"{field}.shape", f"has {len(spec.shape)} dimensions, at most {MAX_DIMS}")
    if rows:
        if not spec.shape or spec.shape[0] is not None:
            raise GraphError(f"{field}.shape", "must have null, the rows, as dimension 0")
        dims = spec.shape[1:]
    if not all(type(d) is int and 0 <= d <= MAX_TENSOR_BYTES for d in dims):
        raise GraphError(f"{field}.shape", f"must be sizes, got {spec.shape!r:.80}")
    if math.prod(d or 1 for d in dims) * DTYPE_BYTES[spec.dtype] > MAX_TENSOR_BYTES:
        raise GraphError(f"{field}.shape", f"{spec.shape!r:.80} is too large")


def _check_size(field: str, items: Sequence[object], most: int) -> None:
    if len(items) > most:
        raise GraphError(field, f"has {len(items)} entries, at most {most}")
