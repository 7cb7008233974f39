"""Does a graph compute what its module computes, at several numbers of rows?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusion.codegen import Program, generate
from fusion.ir import Graph
from fusion.probes import probe_inputs
from fusion.signature import parameter_names

BATCHING_TOLERANCE = 1e-4  # relative: kernels choose another order of sums for other shapes
_HALF_TOLERANCE = 2e-2  # float16 and bfloat16 keep 3 digits or 2


@dataclass(frozen=True)
class Comparison:
    """How far a graph is from its module."""

    absolute: float  # largest |graph - module|
    relative: float  # the same over the largest |module| of that output
    is_stateless: bool  # False: the module answered the same input differently

    def is_within(self, tolerance: float) -> bool:
        """Whether the graph may stand for the module."""
        return self.is_stateless and self.relative <= tolerance


def worst_of(found: Iterable[Comparison]) -> Comparison:
    """The largest differences of several graphs of one module."""
    absolute, relative, stateless = zip(*map(astuple, found), strict=True)
    return Comparison(max(absolute), max(relative), all(stateless))


def compare(
    graph: Graph,
    weights: Mapping[str, Tensor],
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    rows_list: Sequence[int],
) -> Comparison:
    """Largest difference over `rows_list`, two different inputs each, and the first one twice."""
    program = generate(graph)
    parameters = parameter_names(module, [spec.name for spec in graph.inputs])
    held = [weights[spec.name] for spec in graph.weights]
    rows_list = [graph.fixed_rows] if graph.fixed_rows else rows_list
    found = []
    with torch.inference_mode():
        for rows in rows_list:
            for seed in (0, 1):
                inputs = probe_inputs(example_inputs, rows, seed)
                named = {p: inputs[name] for p, name in parameters.items()}
                expected = _call(module, named)
                is_repeated = _is_repeated(module, named, expected)
                actual = program.run(held, [inputs[spec.name] for spec in graph.inputs])
                found.append(compare_outputs(actual, expected, is_repeated))
    return worst_of(found)


def compare_outputs(
    actual: Sequence[Tensor], expected: Sequence[Tensor], is_stateless: bool = True
) -> Comparison:
    """How far outputs of one run are from those they should be."""
    absolute = relative = 0.0
    for a, e in zip(actual, expected, strict=True):
        difference = _difference(a, e)
        absolute = max(absolute, difference)
        relative = max(relative, difference / max(_largest(e), 1e-30))
    return Comparison(absolute, relative, is_stateless)


def is_batchable(
    program: Program, weights: Sequence[Tensor], example: Mapping[str, Tensor], max_rows: int
) -> bool:
    """f(cat(a, b)) == cat(f(a), f(b)): it licenses joining rows of different jobs."""
    first = max(1, min(2, max_rows - 1))
    with torch.inference_mode():
        a = _in_order(program, probe_inputs(example, first, seed=2))
        b = _in_order(program, probe_inputs(example, 1, seed=3))
        joined = program.run(weights, [torch.cat(pair) for pair in zip(a, b, strict=True)])
        apart = zip(program.run(weights, a), program.run(weights, b), strict=True)
        return all(
            j.shape[0] == first + 1 and is_close(j, torch.cat(parts))
            for j, parts in zip(joined, apart, strict=True)
        )


def _in_order(program: Program, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    return [inputs[spec.name] for spec in program.graph.inputs]


def _call(module: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    outputs: list[Any] = []
    _flatten(module(**inputs), outputs)
    return outputs


def _flatten(value: Any, into: list[Any]) -> None:
    if isinstance(value, Tensor):
        into.append(value)
    elif value is not None:
        for item in value.values() if isinstance(value, Mapping) else value:
            _flatten(item, into)


def _is_repeated(
    module: nn.Module, inputs: Mapping[str, Tensor], expected: Sequence[Tensor]
) -> bool:
    again = _call(module, inputs)
    return all(is_close(a, e) for a, e in zip(again, expected, strict=True))


def is_close(a: Tensor, b: Tensor) -> bool:
    """Whether two outputs are the same but for the order of sums."""
    is_half = a.dtype in (torch.float16, torch.bfloat16)
    tolerance = _HALF_TOLERANCE if is_half else BATCHING_TOLERANCE
    return a.shape == b.shape and _difference(a, b) <= tolerance * max(_largest(b), 1.0)


def _difference(a: Tensor, b: Tensor) -> float:
    """Largest difference; equal infinities and NaN at the same places are equal."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    differ = a.double() - b.double()
    same = (a == b) | (a.isnan() & b.isnan())
    worst = differ.masked_fill(same, 0.0).abs()
    return float(worst.nan_to_num(nan=float("inf")).max()) if a.numel() else 0.0


def _largest(a: Tensor) -> float:
    finite = a.double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs()
    return float(finite.max()) if a.numel() else 0.0
