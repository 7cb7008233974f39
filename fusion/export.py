"""A PyTorch module becomes a graph and its weights: torch.export, lowering, passes. At deploy."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from fusion.bindings import dtype_name
from fusion.buckets import are_independent, share_weights
from fusion.check import is_batchable
from fusion.codegen import generate
from fusion.errors import InvalidExample
from fusion.ir import DTYPE_BYTES, Graph
from fusion.ladder import Climbed, climb
from fusion.layout import with_channels_last
from fusion.lower import lower
from fusion.passes import PassReport, optimise
from fusion.passes.rewrite import Weights
from fusion.signature import parameter_names

Inputs = dict[str, Tensor]  # by input name; dimension 0 of each is the rows


@dataclass(frozen=True)
class Exported:
    """What a deployed model is made of."""

    graphs: tuple[Graph, ...]  # one with symbolic rows, or one per row bucket, ascending
    weights: dict[str, Tensor]  # of all graphs, by name; on the CPU, contiguous
    notes: tuple[str, ...]  # warnings for the user
    nodes_before: int
    nodes_after: int  # without the views that only say the layout of kernels
    passes: tuple[PassReport, ...]

    @property
    def graph(self) -> Graph:
        """The graph, or that of the smallest row bucket."""
        return self.graphs[0]

    @property
    def row_buckets(self) -> tuple[int, ...]:
        """Rows of the static graphs; none where rows are symbolic."""
        return tuple(g.fixed_rows for g in self.graphs if g.fixed_rows is not None)

    @property
    def batchable(self) -> bool:
        """Whether rows of different jobs may share a run."""
        return self.graph.batchable


def export(module: nn.Module, example_inputs: Mapping[str, Tensor], max_rows: int) -> Exported:
    """Export a module with symbolic rows; with a static graph per row bucket where they cannot be.

    `example_inputs` are named after forward's parameters, or, when none of the names match, given
    in their order. Leaves the module in eval mode. Raises ExportError with the user's line.
    """
    inputs = checked_example(example_inputs)
    module.eval()
    names = parameter_names(module, list(inputs))
    inputs = {name: inputs[name] for name in names.values()}
    with torch.no_grad(), _quiet():
        by_parameter = {parameter: inputs[name] for parameter, name in names.items()}
        climbed = climb(module, by_parameter, list(inputs), max_rows)
        return _finish(climbed, inputs, max_rows)


def from_exported_program(
    program: ExportedProgram, example_inputs: Mapping[str, Tensor] | None = None, max_rows: int = 8
) -> Exported:
    """Take a program that torch.export made (a `.pt2` file); inputs keep the program's names.

    Without example inputs nothing shows that rows are independent: jobs then run one by one.
    """
    inputs = None if example_inputs is None else checked_example(example_inputs)
    names = None if inputs is None else list(inputs)
    with torch.no_grad(), _quiet():
        return _finish(Climbed((lower(program, names),), ()), inputs, max_rows)


def _finish(climbed: Climbed, inputs: Inputs | None, max_rows: int) -> Exported:
    first = climbed.lowered[0]
    optimised = [optimise(lowered.graph, lowered.weights) for lowered in climbed.lowered]
    parts = [(graph, weights) for graph, weights, _ in optimised]
    passes = optimised[0][2]
    after = len(parts[0][0].nodes)
    if inputs is not None:
        parts = _with_channels_last(parts, inputs, max_rows)
        passes += (PassReport("channels_last", after, len(parts[0][0].nodes)),)
    graphs, weights = share_weights(parts) if len(parts) > 1 else ((parts[0][0],), parts[0][1])
    notes = climbed.notes
    batchable = inputs is not None and _is_batchable(graphs, weights, inputs, max_rows)
    if not batchable:
        notes += ("rows are not shown to be independent: jobs run one by one, never joined",)
    graphs = tuple(replace(graph, batchable=batchable) for graph in graphs)
    before = len(first.graph.nodes)
    return Exported(graphs, weights, notes + first.notes, before, after, passes)


def _with_channels_last(
    parts: list[tuple[Graph, Weights]], inputs: Inputs, max_rows: int
) -> list[tuple[Graph, Weights]]:
    """All of them or none: they share their weights."""
    others = [with_channels_last(graph, weights, inputs, max_rows) for graph, weights in parts]
    changed = [new[0] is not old[0] for new, old in zip(others, parts, strict=True)]
    return others if all(changed) else parts


def _is_batchable(
    graphs: tuple[Graph, ...], weights: Weights, inputs: Inputs, max_rows: int
) -> bool:
    if graphs[0].fixed_rows is None:
        held = [weights[spec.name] for spec in graphs[0].weights]
        return is_batchable(generate(graphs[0]), held, inputs, max_rows)
    # a single row has nothing to be joined with
    return graphs[-1].fixed_rows != 1 and are_independent(
        [generate(graph) for graph in graphs], weights, inputs
    )


def checked_example(example_inputs: Mapping[str, Tensor]) -> Inputs:
    """Example inputs on the CPU; raises InvalidExample for what no function can take."""
    if not example_inputs:
        raise InvalidExample("example_inputs is empty", "Return a dict of tensors by input name")
    rows = set()
    for name, value in example_inputs.items():
        if not isinstance(value, Tensor):
            raise InvalidExample(f"example input {name!r} is {type(value).__name__}, no tensor")
        if value.dim() == 0 or len(value) == 0:
            problem = f"example input {name!r} has shape {tuple(value.shape)}"
            raise InvalidExample(problem, "Dimension 0 of every input is the rows, at least one")
        if dtype_name(value.dtype) not in DTYPE_BYTES:
            raise InvalidExample(f"example input {name!r} has dtype {value.dtype}")
        rows.add(len(value))
    if len(rows) > 1:
        raise InvalidExample(f"example inputs have different rows: {sorted(rows)}")
    return {name: value.detach().cpu() for name, value in example_inputs.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.export warns and logs about its own internals; errors are told by ExportError."""
    log = logging.getLogger("torch")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            log.setLevel(level)
