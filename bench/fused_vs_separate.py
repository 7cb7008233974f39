"""Is a fused DAG faster than the models one after another?

Variants run round robin in one process, so that noise hits all of them alike:
  fused      FusedDag, with the strategy it chose by itself
  eager      the modules one after another, with torch's default number of threads
  eager-1    the same with one intra-op thread: on a loaded machine the threads of the default wait
             for each other, which no fusion should take credit for
  apart      our own functions one after another: the same tiers, one run for each job
  bare       their fastest code in a loop, with none of the checks that keep callers apart
  fusedinf   FusedInf's recipe written afresh: every model symbolically traced into one torch.fx
             graph, convolution and batch normalisation folded, run in order

A row of ratios is `other / fused`: above 1, fused is faster. No bar is below 0.97: 1.0 less 3 % for
noise; losses are shown. Figures are worth quoting only from an otherwise idle machine.

Architectures are compiled first, as the platform does in the background after some hundred runs;
packages are kept in a folder, so that a second run does without. `--zoo` takes every model of the
tests' zoo instead, in groups of 1, 2, 4 and 8, against the same tiers apart, nothing compiled.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import torch
from _report import Row, finish
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from fusion.codegen import Program
from fusion.compiled import has_compiler, load
from fusion.dag import Call, Member, arrange, build
from fusion.export import Exported, export
from fusion.ir import Graph
from fusion.specialise import specialised
from fusion.strategies.lanes import Lanes
from fusion.tiers import COMPILED, Run
from tests.zoo import ZOO, Example, seeded, text, vision

BAR = 0.97  # never slower; 3 % for noise
SMALL_BAR, LARGE_BAR, CALLERS_BAR = 2.0, 1.3, 3.0
HEADS_BAR, HEADS_HELD_BAR = 1.5, 0.3
PACKAGES = Path(__file__).resolve().parents[1] / ".fusebox" / "bench-packages"
ZOO_GROUPS = (1, 2, 4, 8)
SMALL = ("mlp", "tiny_cnn", "bert")
ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "sentence-embedding"
Variant = Callable[[], object]


class Case(NamedTuple):
    """A group to time: `calls[k]` rows of one row each for function k."""

    name: str
    examples: Sequence[Example]
    exports: Sequence[Exported]
    jobs: int = 1  # of each function, one row each
    bar: float = BAR
    rows: int = 1  # of each job
    held_bar: float | None = None  # weights held, each content once, over those of all functions
    is_zoo: bool = False  # against the same tiers apart alone


class Timing(NamedTuple):
    """Seconds of one variant."""

    median_s: float
    low_s: float  # 10th percentile
    high_s: float  # 90th percentile


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases; under a minute")
    parser.add_argument("--seconds", type=float, help="per case; 12, or 1.5 with --quick")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names have it")
    parser.add_argument("--zoo", action="store_true", help="every model of the tests' zoo")
    parser.add_argument("--no-compile", action="store_true", help="generated code and oneDNN only")
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="of compiled code")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()
    budget_s = options.seconds or (1.5 if options.quick else 12.0)
    is_compiled = has_compiler() and not (options.quick or options.zoo or options.no_compile)
    programs = Programs(options.packages if is_compiled else None)
    rows: list[Row] = []
    with Lanes(len(os.sched_getaffinity(0))) as lanes:
        for name, make in _chosen_cases(options):
            if options.only in name:
                rows += _measure(make(name), Bench(programs, lanes, budget_s))
    return finish(rows, "Fused DAG against separate models", options.json)


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
    budget_s: float


Cases = Iterator[tuple[str, Callable[[str], Case]]]  # named; exported when their turn comes


def _chosen_cases(options: argparse.Namespace) -> Cases:
    if options.zoo:
        return _zoo_cases()
    return _quick_cases() if options.quick else _cases()


def _zoo_cases() -> Cases:
    for name, make in ZOO.items():
        for count in ZOO_GROUPS:
            model: Model = lambda seed, make=make: make(seed=seed)  # noqa: E731
            yield f"{name}, {count} functions", _group(model, count, is_zoo=True)


def _quick_cases() -> Cases:
    for count in (2, 4, 8):
        yield f"mlp, {count} functions", _group(_small("mlp"), count)
    for name in ("tiny_cnn", "bert"):
        yield f"{name}, 4 functions", _group(_small(name), 4)
    yield "3 architectures", _mixed([_small(name) for name in SMALL])
    for name in ("mlp", "bert"):
        yield f"{name}, 8 jobs of one function", _same(_small(name), 8)
    yield "resnet18 (64 px), 2 functions", _group(_large("resnet18", 64), 2)


def _cases() -> Cases:
    for name in SMALL:
        for count in (2, 4, 8):
            bar = SMALL_BAR if count == 4 else BAR
            yield f"{name}, {count} functions", _group(_small(name), count, bar=bar)
    yield "3 architectures", _mixed([_small(name) for name in SMALL])
    for name in SMALL:
        for jobs in (4, 8, 16):
            bar = CALLERS_BAR if jobs == 8 and name != "tiny_cnn" else BAR
            yield f"{name}, {jobs} jobs of one function", _same(_small(name), jobs, bar)
    for name in ("resnet18", "mobilenet", "resnet50"):
        model = _large(name, 224)
        for count in (2, 4, 8):
            bar = LARGE_BAR if count < 8 and name != "mobilenet" else BAR
            yield f"{name} (224 px), {count} functions", _group(model, count, bar=bar)
    for count in (2, 4):
        made = _group(_large("mobilenet", 224), count, bar=SMALL_BAR, rows=4)
        yield f"mobilenet (224 px), {count} functions, 4 rows", made
    yield "resnet18 (224 px), 4 jobs of one function", _same(_large("resnet18", 224), 4)
    for count in (2, 4, 8):
        yield f"BERT (256 wide, 64 tokens), {count} functions", _group(_bert_small(), count)
    yield "MiniLM, 4 heads on one backbone", _heads(4)


Model = Callable[[int], Example]  # a seed gives weights of its own


def _small(name: str) -> Model:
    return lambda seed: ZOO[name](seed=seed)


def _large(name: str, size: int) -> Model:
    module = {
        "resnet18": vision.resnet18,
        "resnet50": vision.resnet50,
        "mobilenet": partial(vision.MobileNet, 32, (1, 2, 3, 4, 3)),
    }[name]
    return lambda seed: seeded(module, lambda: {"x": torch.randn(2, 3, size, size)}, seed)


def _bert_small() -> Model:
    def inputs() -> dict[str, Tensor]:
        ids = torch.randint(0, 1000, (2, 64))
        return {"ids": ids, "mask": torch.ones(2, 64, dtype=torch.int64)}

    return lambda seed: seeded(partial(text.Bert, 1000, 256, 4, 4), inputs, seed)


def _group(
    model: Model, count: int, bar: float = BAR, rows: int = 1, is_zoo: bool = False
) -> Callable[[str], Case]:
    """Different functions of one architecture."""

    def make(name: str) -> Case:
        examples = [model(seed) for seed in range(count)]
        exports = [export(e.module, e.inputs, 16) for e in examples]
        return Case(name, examples, exports, bar=bar, rows=rows, is_zoo=is_zoo)

    return make


class _WithHead(nn.Module):
    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(384, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.backbone(input_ids, attention_mask)["embeddings"])


def _heads(count: int) -> Callable[[str], Case]:
    """Functions on MiniLM with its real weights, each with a head of its own."""
    return lambda name: _with_heads(name, count)


def _with_heads(name: str, count: int) -> Case:
    sys.path.insert(0, str(EXAMPLE))
    from handler import example_inputs, load

    backbone, inputs = load().eval(), example_inputs()
    examples, exports = [], []
    for seed in range(count):
        torch.manual_seed(seed)
        module = _WithHead(backbone, 2 + seed).eval()
        examples.append(Example(module, inputs))
        exports.append(export(module, inputs, 16))
    return Case(name, examples, exports, bar=HEADS_BAR, held_bar=HEADS_HELD_BAR)


def _mixed(models: Sequence[Model]) -> Callable[[str], Case]:
    """Different architectures."""

    def make(name: str) -> Case:
        examples = [model(0) for model in models]
        return Case(name, examples, [export(e.module, e.inputs, 16) for e in examples])

    return make


def _same(model: Model, jobs: int, bar: float = BAR) -> Callable[[str], Case]:
    """Several callers of one function."""

    def make(name: str) -> Case:
        example = model(0)
        exported = export(example.module, example.inputs, 16)
        return Case(name, [example], [exported], jobs, bar)

    return make


def _measure(case: Case, bench: Bench) -> list[Row]:
    programs = [bench.programs.of(e.graph) for e in case.exports]
    dag_run, note = _fused(case, programs, bench)
    variants: dict[str, Variant] = {"fused": dag_run, "apart": _apart(case, programs)}
    variants["bare"] = _bare(case, programs)
    recipe = None
    if not case.is_zoo:
        variants["eager"] = _eager(case)
        variants["eager-1"] = _one_thread(variants["eager"])
        recipe = _fusedinf(case)
        if recipe is not None:
            variants["fusedinf"] = recipe
    with torch.inference_mode():
        times = _round_robin(variants, bench.budget_s)
    fused = times["fused"]
    print(f"{case.name}: {note()}" + ("" if recipe else "; fusedinf cannot run"), file=sys.stderr)
    rows = [
        Row(f"{case.name}: {name} {_spread(t)}", t.median_s * 1e3, "ms")
        for name, t in times.items()
    ]
    bars = {"apart": BAR, "eager": case.bar, "fusedinf": BAR}
    rows += [
        Row(f"{case.name}: {name} / fused", _ratio(times[name], fused), "x", bars.get(name))
        for name in ("eager", "eager-1", "apart", "bare", "fusedinf")
        if name in times
    ]
    if case.held_bar is not None:
        rows.append(Row(f"{case.name}: weights held", _held(case), "x", case.held_bar, False))
    return rows


def keys_of(made: Exported) -> tuple[str, ...]:
    """Content keys of the weights, as their files give them."""
    return tuple(sha256(w.contiguous().numpy()).hexdigest() for w in made.weights.values())


def _held(case: Case) -> float:
    """Bytes of the weights with each content once, over the bytes of all."""
    sizes = [
        (key, spec.bytes)
        for made in case.exports
        for key, spec in zip(keys_of(made), made.graph.weights, strict=True)
    ]
    return sum(dict(sizes).values()) / sum(size for _, size in sizes)


def _ratio(other: Timing, fused: Timing) -> float:
    return other.median_s / fused.median_s


def _spread(timing: Timing) -> str:
    return f"(p10 {timing.low_s * 1e3:.3g}, p90 {timing.high_s * 1e3:.3g})"


def _round_robin(variants: dict[str, Variant], budget_s: float) -> dict[str, Timing]:
    """Each variant in turn until the budget is spent, at least 7 rounds after 2 to warm up."""
    times_s: dict[str, list[float]] = {name: [] for name in variants}
    names, order = list(variants), random.Random(0)
    started_s, rounds = perf_counter(), 0
    while rounds < 9 or (perf_counter() - started_s < budget_s and rounds < 2000):
        for name in names:
            run_started_s = perf_counter()
            variants[name]()
            times_s[name].append(perf_counter() - run_started_s)
        order.shuffle(names)  # nobody always follows the same neighbour
        rounds += 1
    return {name: _timing(times[2:]) for name, times in times_s.items()}


def _timing(times_s: Sequence[float]) -> Timing:
    tenths = quantiles(times_s, n=10)
    return Timing(median(times_s), tenths[0], tenths[-1])


def _job(example: Example, index: int, rows: int) -> dict[str, Tensor]:
    return {
        name: torch.cat([x[(index + k) % 2 : (index + k) % 2 + 1] for k in range(rows)])
        for name, x in example.inputs.items()
    }


def _jobs(case: Case, example: Example) -> list[list[Tensor]]:
    return [list(_job(example, j, case.rows).values()) for j in range(case.jobs)]


def _fused(
    case: Case, programs: Sequence[Program], bench: Bench
) -> tuple[Variant, Callable[[], str]]:
    """As the product runs it, after its own trials."""
    rows = case.jobs * case.rows
    bucket = 1 << (rows - 1).bit_length()
    members = [
        Member(program, bucket, keys_of(e))
        for program, e in zip(programs, case.exports, strict=True)
    ]
    dag = build(members, bench.lanes, generate_merged=bench.programs.of)
    calls = [
        Call(list(case.exports[k].weights.values()), _jobs(case, case.examples[k]))
        for k in arrange(members)
    ]
    tiers = [program.tiers for program in programs]
    while not (all(t.is_settled(bucket) for t in tiers) and dag.choice.is_settled):
        dag.run(calls)

    def note() -> str:
        trials = {name: f"{s * 1e3:.3g} ms" for name, s in dag.measured.items()}
        ways = "+".join(dict.fromkeys(t.best(bucket) for t in tiers))
        return f"{ways}, {dag.strategy} of {trials or 'one'}, built in {dag.build_s * 1e3:.1f} ms"

    return lambda: dag.run(calls), note


def _eager(case: Case) -> Variant:
    work = [(e.module, _jobs(case, e)) for e in case.examples]
    return lambda: [module(*job) for module, jobs in work for job in jobs]


def _one_thread(variant: Variant) -> Variant:
    def run() -> object:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return variant()
        finally:
            torch.set_num_threads(threads)

    return run


def _apart(case: Case, programs: Sequence[Program]) -> Variant:
    bucket = 1 << (case.rows - 1).bit_length()
    work = [
        (build([Member(program, bucket)]), [Call(list(x.weights.values()), [job])])
        for program, x, e in zip(programs, case.exports, case.examples, strict=True)
        for job in _jobs(case, e)
    ]
    for dag, calls in work:
        while not dag.members[0].program.tiers.is_settled(bucket):
            dag.run(calls)
    return lambda: [dag.run(calls) for dag, calls in work]


def _bare(case: Case, programs: Sequence[Program]) -> Variant:
    bucket = 1 << (case.rows - 1).bit_length()
    work = [
        (program.tiers.fastest(bucket), list(x.weights.values()), job)
        for program, x, e in zip(programs, case.exports, case.examples, strict=True)
        for job in _jobs(case, e)
    ]
    return lambda: [run(weights, inputs) for run, weights, inputs in work]


class _Unified(nn.Module):
    """FusedInf's unified model: each member runs on inputs of its own, in order."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: list[Tensor]) -> list[object]:
        return [member(inputs[k]) for k, member in enumerate(self.members)]


def _fusedinf(case: Case) -> Variant | None:
    """None where symbolic tracing fails or a model takes several inputs."""
    if any(len(e.inputs) != 1 for e in case.examples):
        return None
    try:
        graph = fx.symbolic_trace(_Unified([fuse(e.module) for e in case.examples]))
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError):
        return None
    inputs = [[x for (x,) in _jobs(case, e)] for e in case.examples]
    jobs = [list(its) for its in zip(*inputs, strict=True)]
    return lambda: [graph(inputs) for inputs in jobs]


if __name__ == "__main__":
    sys.exit(main())
