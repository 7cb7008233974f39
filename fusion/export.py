"""A PyTorch module becomes a graph and its weights: torch.export, lowering, passes. At deploy."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fusion.bindings import dtype_name
from fusion.check import is_batchable
from fusion.codegen import generate
from fusion.errors import ExportError
from fusion.ir import DTYPE_BYTES, Graph
from fusion.layout import with_channels_last
from fusion.lower import lower
from fusion.passes import PassReport, optimise
from fusion.probes import with_rows
from fusion.signature import parameter_names
from fusion.where import error_line

Inputs = dict[str, Tensor]  # by input name; dimension 0 of each is the rows

# torch.export specialises on 0 and 1: a symbolic dimension is traced with 2 rows.
_TRACED_ROWS = 2
_DATA_DEPENDENT = (
    "Control flow on tensor values cannot be exported: compute both sides and choose with "
    "torch.where, and keep .item(), .tolist() and .numpy() out of forward"
)
_GENERAL = "forward must be traceable by torch.export; see docs/fusion.md for what is supported"


@dataclass(frozen=True)
class Exported:
    """What a deployed model is made of."""

    graph: Graph
    weights: dict[str, Tensor]  # by name, in the graph's order; on the CPU, contiguous
    notes: tuple[str, ...]  # warnings for the user
    nodes_before: int
    nodes_after: int  # without the views that only say the layout of kernels
    passes: tuple[PassReport, ...]

    @property
    def fixed_batch(self) -> bool:
        """Whether the graph runs with one number of rows only."""
        return self.graph.fixed_rows is not None

    @property
    def batchable(self) -> bool:
        """Whether rows of different jobs may share a run."""
        return self.graph.batchable


def export(module: nn.Module, example_inputs: Mapping[str, Tensor], max_rows: int) -> Exported:
    """Export a module with symbolic rows; a fixed batch of 1 where it allows no other.

    `example_inputs` are named after forward's parameters, or, when none of the names match, given
    in their order. Leaves the module in eval mode. Raises ExportError with the user's line.
    """
    inputs = _checked(example_inputs)
    module.eval()
    names = parameter_names(module, list(inputs))
    inputs = {name: inputs[name] for name in names.values()}
    traced = {p: with_rows(inputs[name], _TRACED_ROWS) for p, name in names.items()}
    with torch.no_grad(), _quiet():
        _run_once(module, {p: x[:1] for p, x in traced.items()})
        program, notes = _trace(module, traced, max(max_rows, _TRACED_ROWS))
        return _finish(program, list(inputs), inputs, notes, max_rows)


def from_exported_program(
    program: ExportedProgram, example_inputs: Mapping[str, Tensor] | None = None, max_rows: int = 8
) -> Exported:
    """Take a program that torch.export made (a `.pt2` file); inputs keep the program's names.

    Without example inputs nothing shows that rows are independent: jobs then run one by one.
    """
    inputs = None if example_inputs is None else _checked(example_inputs)
    names = None if inputs is None else list(inputs)
    with torch.no_grad(), _quiet():
        return _finish(program, names, inputs, (), max_rows)


def _finish(
    program: ExportedProgram,
    names: list[str] | None,
    inputs: Inputs | None,
    notes: tuple[str, ...],
    max_rows: int,
) -> Exported:
    lowered = lower(program, names)
    before = len(lowered.graph.nodes)
    graph, weights, passes = optimise(lowered.graph, lowered.weights)
    after = len(graph.nodes)
    if inputs is not None:
        graph, weights = with_channels_last(graph, weights, inputs, max_rows)
        passes += (PassReport("channels_last", after, len(graph.nodes)),)
    batchable = False
    if inputs is not None and graph.fixed_rows is None:
        batchable = is_batchable(generate(graph), list(weights.values()), inputs, max_rows)
    if not batchable:
        notes += ("rows are not shown to be independent: jobs run one by one, never joined",)
    graph = replace(graph, batchable=batchable)
    return Exported(graph, weights, notes + lowered.notes, before, after, passes)


def _checked(example_inputs: Mapping[str, Tensor]) -> Inputs:
    if not example_inputs:
        raise ExportError("example_inputs is empty", "Return a dict of tensors by input name")
    rows = set()
    for name, value in example_inputs.items():
        if not isinstance(value, Tensor):
            raise ExportError(f"example input {name!r} is {type(value).__name__}, no tensor")
        if value.dim() == 0 or len(value) == 0:
            problem = f"example input {name!r} has shape {tuple(value.shape)}"
            raise ExportError(problem, "Dimension 0 of every input is the rows, at least one")
        if dtype_name(value.dtype) not in DTYPE_BYTES:
            raise ExportError(f"example input {name!r} has dtype {value.dtype}")
        rows.add(len(value))
    if len(rows) > 1:
        raise ExportError(f"example inputs have different rows: {sorted(rows)}")
    return {name: value.detach().cpu() for name, value in example_inputs.items()}


def _run_once(module: nn.Module, inputs: Inputs) -> None:
    """An error of forward itself is told as such, not as one of tracing."""
    try:
        module(**inputs)
    except Exception as error:  # the user's code may raise anything
        kind = type(error).__name__
        problem = f"forward fails on the example inputs with 1 row: {kind}: {error}"
        raise ExportError(problem, "Make it run eagerly first", error_line(error)) from error


def _trace(
    module: nn.Module, inputs: Inputs, max_rows: int
) -> tuple[ExportedProgram, tuple[str, ...]]:
    rows = Dim("rows", min=1, max=max_rows)
    symbolic = {name: {0: rows} for name in inputs}
    first: Exception | None = None
    for strict in (False, True):
        try:
            program = torch.export.export(
                module, (), inputs, dynamic_shapes=symbolic, strict=strict
            )
        except Exception as error:  # noqa: BLE001 -- tracing runs the user's code, which may raise anything
            first = first or error
        else:
            return program, ()
    assert first is not None
    return _trace_one_row(module, inputs, first)


def _trace_one_row(
    module: nn.Module, inputs: Inputs, why: Exception
) -> tuple[ExportedProgram, tuple[str, ...]]:
    one = {name: x[:1] for name, x in inputs.items()}
    try:
        program = torch.export.export(module, (), one, strict=False)
    except Exception:  # noqa: BLE001 -- as above; the first error tells more
        raise _explained(why) from why
    reason = str(why).strip().splitlines()[0]
    return program, (f"only a fixed batch of 1 can be exported ({type(why).__name__}: {reason})",)


def _explained(error: Exception) -> ExportError:
    text = str(error).strip() or type(error).__name__
    is_data_dependent = any(
        mark in f"{type(error).__name__} {text}"
        for mark in ("DataDependent", "data-dependent", "fake tensor", "FakeTensor")
    )
    advice = _DATA_DEPENDENT if is_data_dependent else _GENERAL
    problem = f"cannot export forward: {type(error).__name__}: {text.splitlines()[0]}"
    return ExportError(problem.rstrip("."), advice, error_line(error))


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
