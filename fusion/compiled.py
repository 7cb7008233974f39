"""Graphs compiled to machine code by AOTInductor, weights as inputs: one package per architecture.

`python -m fusion.compiled GRAPH PACKAGE` compiles, in a process of its own: it takes tens of
seconds of processor time and half a gigabyte.

The package is called through the raw loader: the wrapper around it reads a JSON tree at every call.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fusion.bindings import dtype
from fusion.codegen import generate
from fusion.errors import FusionError
from fusion.ir import Graph, TensorSpec
from fusion.tiers import Run

# Rows are symbolic up to here; more run on generated code.
MAX_ROWS = 1024
_TRACED_ROWS = 2
_PR_SET_PDEATHSIG = 1


class CompileError(FusionError):
    """An architecture cannot be compiled here."""


class _Flat(nn.Module):
    """A program as a module that takes weights and inputs in one list."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._run = generate(graph).run
        self._weights = len(graph.weights)

    def forward(self, *flat: Tensor) -> list[Tensor]:
        return self._run(flat[: self._weights], flat[self._weights :])


def has_compiler() -> bool:
    """Whether there is a C++ compiler that AOTInductor would use."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def compile_graph(graph: Graph, package: Path, row_groups: Sequence[int] = ()) -> None:
    """Compile for the processor of this machine and write the package, whole or not at all.

    `row_groups` as in Program. Raises CompileError. torch's settings of this process are changed.
    """
    from torch._inductor import aoti_compile_and_package, config

    config.cpp.dynamic_threads = True  # lanes run with one thread, others with all
    groups = row_groups or [0] * len(graph.inputs)
    # rows that may differ are traced with numbers that do
    rows = [graph.fixed_rows or _TRACED_ROWS + group for group in groups]
    flat = [torch.zeros(spec.shape, dtype=dtype(spec.dtype)) for spec in graph.weights]
    flat += [_example(spec, count) for spec, count in zip(graph.inputs, rows, strict=True)]
    shapes: list[dict[int, object] | None] = [None] * len(flat)
    if graph.fixed_rows is None:
        symbolic = {k: torch.export.Dim(f"rows_{k}", min=1, max=MAX_ROWS) for k in {*groups}}
        shapes[len(graph.weights) :] = [{0: symbolic[group]} for group in groups]
    with tempfile.TemporaryDirectory(dir=package.parent) as folder, torch.no_grad():
        written = Path(folder) / "model.pt2"
        try:
            exported = torch.export.export(
                _Flat(graph), tuple(flat), dynamic_shapes=(tuple(shapes),), strict=False
            )
            aoti_compile_and_package(exported, package_path=str(written))
        except Exception as error:  # a compiler of many parts, which may raise anything
            kind, _, text = str(error).strip().partition("\n")
            raise CompileError(f"{type(error).__name__}: {kind} {text[:500]}".strip()) from error
        written.replace(package)


def load(graph: Graph, package: Path, runners: int) -> Run:
    """The package as a program's `run`; as many threads as `runners` may call it at once.

    Raises CompileError.
    """
    try:
        # not through torch._inductor, which takes seconds and a hundred megabytes to import
        loader = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", False, runners, -1)
    except Exception as error:  # a broken file may raise anything
        raise CompileError(f"{package.name}: {type(error).__name__}: {error}") from error
    call = loader.run
    most = graph.fixed_rows or MAX_ROWS

    def run(weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        for x in inputs:
            if x.size(0) > most:
                raise IndexError(f"{x.size(0)} rows, {most} at most")
        # the code was compiled for dense tensors and does not look
        found: list[Tensor] = call([*weights, *[x.contiguous() for x in inputs]])
        return found

    return run


def _example(spec: TensorSpec, rows: int) -> Tensor:
    shape = [rows if size is None else size for size in spec.shape]
    return torch.zeros(shape, dtype=dtype(spec.dtype))


def _yield_to_others() -> None:
    """Compile only when nothing else wants the processor, and end with whoever started it."""
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):  # Linux shares processors out by session, where it does
        Path("/proc/self/autogroup").write_text("19")
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Compile the graph of a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graph", type=Path)
    parser.add_argument("package", type=Path)
    parser.add_argument("--row-groups", type=int, nargs="+", default=(), help="as in Program")
    options = parser.parse_args()
    _yield_to_others()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            graph = Graph.decode(options.graph.read_bytes())
            compile_graph(graph, options.package, options.row_groups)
    except (FusionError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
