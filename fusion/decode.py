"""graph.json to a Graph. The bytes may be hostile: every error is a GraphError naming the field."""

import json
from typing import Any, Literal, NoReturn

from fusion.errors import GraphError
from fusion.ir import FORMAT, Arg, DType, Graph, MemoryFormat, Node, Output, Ref, TensorSpec
from fusion.ir import WeightSpec as Weight
from fusion.validate import validate

MAX_GRAPH_BYTES = 16 << 20
MAX_NESTING = 3  # a list of lists is as deep as any schema goes

_KINDS: dict[str, Literal["weight", "input", "node"]] = {
    "weight": "weight",
    "input": "input",
    "node": "node",
}
_INFINITIES = {"inf": float("inf"), "-inf": float("-inf")}


def decode(data: bytes) -> Graph:
    """Read and validate a graph; raises GraphError or UnsupportedOperator."""
    plain = _load(data)
    _expect(_is_object(plain), "", "must be an object", plain)
    _expect(plain.get("format") == FORMAT, "format", f"must be {FORMAT}", plain.get("format"))
    rows = plain.get("fixed_rows")
    _expect(rows is None or type(rows) is int, "fixed_rows", "must be an integer or null", rows)
    batchable = plain.get("batchable")
    _expect(type(batchable) is bool, "batchable", "must be true or false", batchable)
    return validate(
        Graph(
            inputs=tuple(TensorSpec(*_spec(f, v)) for f, v in _items(plain, "inputs")),
            weights=tuple(_weight(f, v) for f, v in _items(plain, "weights")),
            nodes=tuple(_node(f, v) for f, v in _items(plain, "nodes")),
            outputs=tuple(_output(f, v) for f, v in _items(plain, "outputs")),
            fixed_rows=rows,
            batchable=batchable,
        )
    )


def _load(data: bytes) -> Any:
    if len(data) > MAX_GRAPH_BYTES:
        raise GraphError("", f"has {len(data)} bytes, at most {MAX_GRAPH_BYTES}")
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise GraphError("", "is nested too deeply") from None
    except ValueError as error:  # bad JSON, bad UTF-8 or an integer of thousands of digits
        raise GraphError("", f"is not valid JSON: {error!s:.200}") from None


def _no_constant(name: str) -> NoReturn:
    raise GraphError("", f"contains {name}, which is not JSON")


def _expect(holds: bool, field: str, problem: str, got: object) -> None:
    if not holds:
        raise GraphError(field, f"{problem}, got {got!r:.80}")


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _items(plain: dict[str, Any], field: str) -> list[tuple[str, Any]]:
    value = plain.get(field)
    if not isinstance(value, list):
        raise GraphError(field, f"must be a list, got {value!r:.80}")
    return [(f"{field}[{i}]", item) for i, item in enumerate(value)]


def _list(field: str, value: Any, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise GraphError(field, f"must be a list of {least} to {most}, got {value!r:.80}")
    return value


def _spec(field: str, value: Any) -> tuple[str, str, tuple[Any, ...]]:
    name, dtype, shape = _list(field, value, 3, 3)
    _expect(isinstance(name, str), f"{field}.name", "must be a string", name)
    _expect(isinstance(dtype, str), f"{field}.dtype", "must be a string", dtype)
    _expect(isinstance(shape, list), f"{field}.shape", "must be a list", shape)
    return name, dtype, tuple(shape)


def _weight(field: str, value: Any) -> Weight:
    name, dtype, shape = _spec(field, value)
    return Weight(name, dtype, shape)


def _output(field: str, value: Any) -> Output:
    parts = _list(field, value, 4, 4)
    ref = _argument(f"{field}.value", parts[3])
    if not isinstance(ref, Ref):
        raise GraphError(f"{field}.value", f"must be a reference, got {parts[3]!r:.80}")
    return Output(TensorSpec(*_spec(field, parts[:3])), ref)


def _node(field: str, value: Any) -> Node:
    parts = _list(field, value, 2, 4)
    operator, args = parts[:2]
    kwargs = parts[2] if len(parts) > 2 else {}
    outputs = parts[3] if len(parts) > 3 else 1
    _expect(isinstance(operator, str), f"{field}.operator", "must be a string", operator)
    _expect(isinstance(args, list), f"{field}.args", "must be a list", args)
    _expect(_is_object(kwargs), f"{field}.kwargs", "must be an object", kwargs)
    _expect(type(outputs) is int, f"{field}.outputs", "must be an integer", outputs)
    return Node(
        operator,
        tuple(_argument(f"{field}.args[{i}]", a) for i, a in enumerate(args)),
        tuple(
            (name, _argument(f"{field}.kwargs.{name:.80}", kwargs[name])) for name in sorted(kwargs)
        ),
        outputs,
    )


def _argument(field: str, value: Any, depth: int = 0) -> Arg:
    if isinstance(value, list):
        _expect(depth < MAX_NESTING, field, "is nested too deeply", "a list")
        return tuple(_argument(f"{field}[{i}]", v, depth + 1) for i, v in enumerate(value))
    if isinstance(value, dict):
        return _marked(field, value)
    if isinstance(value, float) and value in _INFINITIES.values():
        raise GraphError(field, "must be a finite number")  # 1e999 in JSON
    assert value is None or isinstance(value, bool | int | float | str)
    return value


def _marked(field: str, value: dict[str, Any]) -> Arg:
    """References, dtypes and the like: an object with one key that says what it is."""
    _expect(len(value) == 1, field, "must be an object of one key", value)
    (mark, inner), *_ = value.items()
    if mark in _KINDS:
        index, output = inner if isinstance(inner, list) and len(inner) == 2 else (inner, 0)
        is_index = type(index) is int and type(output) is int
        _expect(is_index, field, f"must be the index of a {mark}", inner)
        return Ref(_KINDS[mark], index, output)
    _expect(isinstance(inner, str), field, "must be a string", inner)
    if mark == "dtype":
        return DType(inner)
    if mark == "memory_format":
        return MemoryFormat(inner)
    if mark == "float" and inner in _INFINITIES:
        return _INFINITIES[inner]
    raise GraphError(field, f"unknown mark {mark!r:.80}")
