"""A user's model, and the graph that stands for it on the platform."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contract.tensors import DTYPES
from deploy.errors import NotExportable, PackagingError
from deploy.user_code import UserCode, blamed
from fusion.check import Comparison, compare, worst_of
from fusion.codegen import generate
from fusion.errors import ExportError, FusionError, InvalidExample
from fusion.export import Exported, export, from_exported_program
from fusion.interpret import measure_activation_bytes
from fusion.ir import TensorSpec
from fusion.probes import probe_inputs

TOLERANCE = 1e-4  # relative: what a graph may differ from its model
_HALF_TOLERANCE = 1e-2  # float16 keeps three digits


@dataclass(frozen=True)
class Model:
    """A module to compare with, and inputs to do it; `program` is set where it came exported."""

    module: nn.Module
    example_inputs: Mapping[str, Tensor]  # by name; dimension 0 is the rows
    parameters: int
    max_rows: int | None = None  # what an exported program allows
    program: torch.export.ExportedProgram | None = None


class _ByName(nn.Module):
    """An exported program's module, called with its tensors by name."""

    def __init__(self, program: torch.export.ExportedProgram, names: list[str]) -> None:
        super().__init__()
        self._names = names
        self._spec = torch.utils._pytree.tree_structure(program.example_inputs)
        self._inner = program.module()

    def forward(self, **inputs: Tensor) -> Any:
        leaves = [inputs[name] for name in self._names]
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, self._spec)
        return self._inner(*args, **kwargs)


def from_handler(code: UserCode) -> Model:
    """What load() and example_inputs() give; raises PackagingError."""
    code.require("load", "it returns the model, a torch.nn.Module")
    code.require("example_inputs", "it returns a dict of tensors by name, rows first")
    module = code.call("load")
    if not isinstance(module, nn.Module):
        raise PackagingError(
            f"{code.line_of('load')}: load() returned {type(module).__name__}. "
            "Return a torch.nn.Module"
        )
    inputs = code.call("example_inputs")
    if not isinstance(inputs, dict) or not all(isinstance(name, str) for name in inputs):
        raise PackagingError(
            f"{code.line_of('example_inputs')}: example_inputs() returned "
            f"{type(inputs).__name__}. Return a dict of tensors by input name"
        )
    with blamed(code.path, "the model cannot be moved to the CPU"):
        module = module.cpu().eval()
    return Model(module, inputs, _parameters(module))


def from_program(path: Path) -> Model:
    """A `.pt2` file of torch.export.save; raises PackagingError."""
    with blamed(path, "cannot be read as an exported program (torch.export.save writes one)"):
        program = torch.export.load(str(path))
    names = list(program.graph_signature.user_inputs)
    leaves = torch.utils._pytree.tree_leaves(program.example_inputs)
    if program.example_inputs is None or not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise PackagingError(
            f"{path}: holds no example inputs, or some that are no tensors. "
            "Export it with tensors as inputs and save it with torch.export.save"
        )
    limits = [int(c.upper) for c in program.range_constraints.values() if c.upper < 2**31]
    return Model(
        _ByName(program, names),
        dict(zip(names, leaves, strict=True)),
        _parameters(program),
        min(limits, default=None),
        program,
    )


def export_model(model: Model, max_rows: int) -> Exported:
    """The model as a graph; raises PackagingError naming the user's line and what to do.

    NotExportable where the model runs all the same.
    """
    with _explained():
        if model.program is not None:
            exported = from_exported_program(model.program, model.example_inputs, max_rows)
        else:
            exported = export(model.module, model.example_inputs, max_rows)
    if model.program is not None and (exported.graph.fixed_rows or 1) > 1:
        raise PackagingError(
            f"the program runs with exactly {exported.graph.fixed_rows} rows. Export it with "
            "dynamic_shapes whose first dimension is torch.export.Dim"
        )
    outputs = [output.spec for output in exported.graph.outputs]
    check_specs((*exported.graph.inputs, *outputs))
    return exported


def check_specs(specs: Iterable[TensorSpec]) -> None:
    """Raise PackagingError for a dtype that cannot be sent."""
    for spec in specs:
        if spec.dtype not in DTYPES:
            raise PackagingError(
                f"{spec.name}: {spec.dtype} cannot be sent over HTTP. "
                "Convert it inside forward: inputs with .to(...), outputs with .float()"
            )


def check(model: Model, exported: Exported, rows: list[int]) -> Comparison:
    """Compare graph and model; raises PackagingError where they differ."""
    graph = exported.graph
    with _explained():
        found = worst_of(
            compare(each, exported.weights, model.module, model.example_inputs, rows)
            for each in exported.graphs
        )
    if not found.is_stateless:
        raise PackagingError(
            "the model answers the same input differently each time. Remove randomness and "
            "counters from forward: a graph has neither"
        )
    tolerance = tolerance_of(output.spec for output in graph.outputs)
    if not found.is_within(tolerance):
        raise NotExportable(
            f"the graph differs from the model by {found.relative:.2e} (relative), more than "
            f"{tolerance:g}. Python that depends on values or on the number of rows was frozen as "
            "it went with the example inputs: write it with torch.where and tensor shapes"
        )
    return found


def tolerance_of(outputs: Iterable[TensorSpec]) -> float:
    """What outputs may differ, relative to the largest."""
    return _HALF_TOLERANCE if any("16" in spec.dtype for spec in outputs) else TOLERANCE


def measure(model: Model, exported: Exported, rows: Sequence[int]) -> dict[int, int]:
    """Bytes of activations at their peak, by rows."""
    peaks = {}
    for count in rows:
        named = probe_inputs(model.example_inputs, count, seed=0)
        graph = next(g for g in exported.graphs if g.fixed_rows in (None, count))
        weights = [exported.weights[spec.name] for spec in graph.weights]
        inputs = [named[spec.name] for spec in graph.inputs]
        peaks[count] = measure_activation_bytes(generate(graph), weights, inputs)
    return peaks


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except InvalidExample as error:
        raise PackagingError(str(error), location=error.location) from error
    except ExportError as error:
        raise NotExportable(str(error), location=error.location) from error
    except FusionError as error:
        raise PackagingError(f"the model cannot become a graph: {error}") from error


def _parameters(module: nn.Module | torch.export.ExportedProgram) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
