"""A graph as straight-line Python: `run(weights, inputs)`, weights as arguments.

One program serves every function of its architecture. The source is made of fixed names, indices
and literals of validated types: nothing a graph spells reaches it.
"""

import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from types import CodeType
from typing import Any

import torch

from fusion.bindings import binding, dtype
from fusion.ir import DTYPE_BYTES, MEMORY_FORMATS, Arg, DType, Graph, MemoryFormat, Node, Ref
from fusion.operators import FACTORIES, operator
from fusion.tiers import Run, Tiers


@dataclass(frozen=True, eq=False)
class Program:
    """Generated code of one architecture."""

    graph: Graph
    source: str
    run: Run  # (weights, inputs) in the graph's order, on one device -> outputs
    tiers: Tiers  # `run`, and faster ways
    row_groups: tuple[int, ...]  # per input: inputs of equal number have equally many rows

    @cached_property
    def bytes(self) -> int:
        """Bytes of host memory the source and its code object hold."""
        code: CodeType = self.run.__code__
        return sys.getsizeof(self.source) + _code_bytes(code)


def generate(graph: Graph, row_groups: tuple[int, ...] = ()) -> Program:
    """Generate and compile; milliseconds. The graph must be validated.

    Without `row_groups` all inputs have equally many rows.
    """
    source = "\n".join(_lines(graph)) + "\n"
    run: Run = compiled(graph, source)["run"]
    return Program(graph, source, run, Tiers(run), row_groups or (0,) * len(graph.inputs))


def compiled(graph: Graph, source: str) -> dict[str, Any]:
    """The names that generated source defines; it may use the graph's operators and no others."""
    names = _constants() | {_name(n.operator): binding(n.operator) for n in graph.nodes}
    code = compile(source, f"<fusebox {graph.architecture[:12]}>", "exec")
    exec(code, names)  # noqa: S102 -- the source is ours: fixed names, indices, checked literals
    return names


def last_uses(graph: Graph) -> dict[int, list[Ref]]:
    """Per node: what nothing after it needs, its own unused results included, weights not."""
    last: dict[Ref, int] = {}
    for index, node in enumerate(graph.nodes):
        last.update({Ref("node", index, k): index for k in range(node.outputs)})
        last.update({ref: index for ref in node.refs() if ref.kind != "weight"})
    for output in graph.outputs:
        last.pop(output.value, None)
    dead: dict[int, list[Ref]] = defaultdict(list)
    for ref, index in last.items():
        dead[index].append(ref)
    return dead


def _lines(graph: Graph) -> list[str]:
    return [*opening(graph), *statements(graph), closing(graph, "return")]


def opening(graph: Graph) -> list[str]:
    """The head of `run`, and its inputs by name."""
    lines = ["def run(w, x):"]
    lines += [f"    {', '.join(f'x{i}' for i in range(len(graph.inputs)))}, = x"]
    if any(node.operator in FACTORIES for node in graph.nodes):
        lines.append("    device = x0.device")
    return lines


def statements(graph: Graph) -> list[str]:
    """One line a node, each of which gives up what nothing after it needs."""
    dead = last_uses(graph)
    lines = []
    for index, node in enumerate(graph.nodes):
        line = f"    {_targets(index, node)} = {_call(node)}"
        if dead[index]:
            line += f"; del {', '.join(map(_value, dead[index]))}"
        lines.append(line)
    return lines


def closing(graph: Graph, word: str) -> str:
    """What hands the outputs over, by `return` or `yield`."""
    return f"    {word} [{', '.join(_value(o.value) for o in graph.outputs)}]"


def _targets(index: int, node: Node) -> str:
    names = [_value(Ref("node", index, k)) for k in range(node.outputs)]
    return ", ".join(names) + ("," if operator(node.operator).has_several else "")


def _call(node: Node) -> str:
    args = [_value(a) for a in node.args]
    args += [f"{_checked_name(node, name)}={_value(a)}" for name, a in node.kwargs]
    if node.operator in FACTORIES:
        args.append("device=device")
    return f"{_name(node.operator)}({', '.join(args)})"


def _checked_name(node: Node, name: str) -> str:
    """The schema's own spelling: a name from the graph never reaches the source."""
    return next(p.name for p in operator(node.operator).parameters if p.name == name)


def _name(operator_name: str) -> str:
    return "op_" + operator(operator_name).name.replace(".", "_")


def _value(value: Arg) -> str:
    if isinstance(value, Ref):
        return _variable(value)
    if isinstance(value, tuple):  # a tuple of constants is built once, at compile time
        return f"({''.join(f'{_value(v)}, ' for v in value)})"
    if isinstance(value, DType | MemoryFormat):
        assert value.name in _constants(), value
        return value.name
    assert value is None or type(value) in (bool, int, float, str), value
    return repr(value)  # inf is a name in the namespace


def _variable(ref: Ref) -> str:
    if ref.kind == "weight":
        return f"w[{ref.index:d}]"
    if ref.kind == "input":
        return f"x{ref.index:d}"
    return f"n{ref.index:d}_{ref.output:d}" if ref.output else f"n{ref.index:d}"


@cache
def _constants() -> dict[str, Any]:
    formats = {name: getattr(torch, name) for name in MEMORY_FORMATS}
    dtypes = {name: dtype(name) for name in DTYPE_BYTES}
    # torch's C code imports modules of its own at first use, through the builtins of its caller
    builtins = {"__import__": __import__}
    return {"__builtins__": builtins, "inf": float("inf"), **formats, **dtypes}


def _code_bytes(code: CodeType) -> int:
    held: list[object] = [code, code.co_linetable, code.co_exceptiontable, code.co_names]
    held += [code.co_varnames, code.co_consts, *code.co_consts]
    return sum(map(sys.getsizeof, held))
