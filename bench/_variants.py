"""The ways to run a case: the fused DAG, and all that it is compared with."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from _cases import Case, jobs_of, keys_of
from _timing import Length
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from fusion.codegen import Program
from fusion.compiled import load
from fusion.dag import Call, build
from fusion.ir import Graph
from fusion.loaders import MappedLoader
from fusion.members import Member, arrange
from fusion.specialise import specialised
from fusion.strategies.lanes import Lanes
from fusion.tiers import COMPILED, Run
from fusion.weights import write_weights

ROOT = Path(__file__).resolve().parents[1]
Variant = Callable[[], object]


class Programs:
    """A program per architecture, compiled first where there is a folder for packages."""

    def __init__(self, packages: Path | None) -> None:
        self._packages = packages
        self._programs: dict[str, Program] = {}

    def of(self, graph: Graph, row_groups: tuple[int, ...] = ()) -> Program:
        """The program of this architecture, one for all its functions as in a worker."""
        program = self._programs.get(graph.architecture)
        if program is None:
            program = self._programs[graph.architecture] = specialised(graph, "cpu", row_groups)
            if self._packages is not None:
                program.tiers.add(COMPILED, self._compiled(program, self._packages))
        return program

    def _compiled(self, program: Program, packages: Path) -> Run:
        graph = program.graph
        packages.mkdir(parents=True, exist_ok=True)
        package = packages / f"{graph.architecture}-{torch.__version__}.pt2"
        if not package.exists():
            print(f"compiling {graph.architecture[:12]}", file=sys.stderr)
            with tempfile.NamedTemporaryFile() as file:
                file.write(graph.encode())
                file.flush()
                command = [sys.executable, "-m", "fusion.compiled", file.name, str(package)]
                command += ["--row-groups", *map(str, program.row_groups)]
                subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return load(graph, package, runners=len(os.sched_getaffinity(0)))


class Bench(NamedTuple):
    """What every case is measured with."""

    programs: Programs
    lanes: Lanes
    length: Length


Weights = Sequence[Sequence[Tensor]]  # per function, in its graph's order


@contextmanager
def resident(case: Case) -> Iterator[Weights]:
    """Weights of the functions in slots, as a worker has them."""
    loader = MappedLoader()
    with tempfile.TemporaryDirectory() as folder:
        held = []
        for k, made in enumerate(case.exports):
            path = Path(folder) / f"{k}.safetensors"
            loaded = loader.load(path, write_weights(path, made.weights), is_verified=True)
            held.append(loaded.tensors)
        yield held


def fused(
    case: Case, weights: Weights, programs: Sequence[Program], bench: Bench
) -> tuple[Variant, Callable[[], str]]:
    """As the product runs it, after its own trials."""
    rows = case.jobs * case.rows
    bucket = 1 << (rows - 1).bit_length()
    members = [
        Member(program, bucket, keys_of(e))
        for program, e in zip(programs, case.exports, strict=True)
    ]
    dag = build(members, bench.lanes, generate_merged=bench.programs.of)
    calls = [Call(weights[k], jobs_of(case, case.examples[k])) for k in arrange(members)]
    tiers = [program.tiers for program in programs]
    while not (all(t.is_settled(bucket) for t in tiers) and dag.choice.is_settled):
        dag.run(calls)

    def note() -> str:
        trials = {name: f"{s * 1e3:.3g} ms" for name, s in dag.measured.items()}
        ways = "+".join(dict.fromkeys(t.best(bucket) for t in tiers))
        return f"{ways}, {dag.strategy} of {trials or 'one'}, built in {dag.build_s * 1e3:.1f} ms"

    return lambda: dag.run(calls), note


def eager(case: Case) -> Variant:
    """The modules one after another."""
    work = [(e.module, jobs_of(case, e)) for e in case.examples]
    return lambda: [module(*job) for module, jobs in work for job in jobs]


def one_thread(variant: Variant) -> Variant:
    """The same with one intra-op thread."""

    def run() -> object:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return variant()
        finally:
            torch.set_num_threads(threads)

    return run


def apart(case: Case, weights: Weights, programs: Sequence[Program]) -> Variant:
    """A DAG of its own for each job, on tiers that have settled."""
    bucket = 1 << (case.rows - 1).bit_length()
    work = [
        (build([Member(program, bucket)]), [Call(its, [job])])
        for program, its, e in zip(programs, weights, case.examples, strict=True)
        for job in jobs_of(case, e)
    ]
    for dag, calls in work:
        while not dag.members[0].program.tiers.is_settled(bucket):
            dag.run(calls)
    return lambda: [dag.run(calls) for dag, calls in work]


def bare(case: Case, weights: Weights, programs: Sequence[Program]) -> Variant:
    """The code of the fastest tiers in a loop."""
    bucket = 1 << (case.rows - 1).bit_length()
    work = [
        (program.tiers.fastest(bucket), its, job)
        for program, its, e in zip(programs, weights, case.examples, strict=True)
        for job in jobs_of(case, e)
    ]
    return lambda: [run(weights, inputs) for run, weights, inputs in work]


class _Unified(nn.Module):
    """FusedInf's unified model: each member runs on inputs of its own, in order."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: list[Tensor]) -> list[object]:
        return [member(inputs[k]) for k, member in enumerate(self.members)]


def fusedinf(case: Case) -> Variant | None:
    """FusedInf's recipe; None where symbolic tracing fails or a model takes several inputs."""
    if any(len(e.inputs) != 1 for e in case.examples):
        return None
    try:
        graph = fx.symbolic_trace(_Unified([fuse(e.module) for e in case.examples]))
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError):
        return None
    inputs = [[x for (x,) in jobs_of(case, e)] for e in case.examples]
    jobs = [list(its) for its in zip(*inputs, strict=True)]
    return lambda: [graph(inputs) for inputs in jobs]
