"""Is a fused DAG faster than the models one after another?

Variants run round robin in one process, so that noise hits all of them alike:
  fused      FusedDag, with the strategy it chose by itself
  eager      the modules one after another, with torch's default number of threads
  eager-1    the same with one intra-op thread: on a loaded machine the threads of the default wait
             for each other, which no fusion should take credit for
  generated  our generated programs one after another, not fused
  fusedinf   FusedInf's recipe written afresh: every model symbolically traced into one torch.fx
             graph, convolution and batch normalisation folded, run in order

A row of ratios is `other / fused`: above 1, fused is faster. The bar of `eager / fused` is 1.0 less
3 % for noise; losses are shown. Figures are worth quoting only from an otherwise idle machine.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
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

from fusion.dag import Call, Member, arrange, build
from fusion.export import Exported, export
from fusion.specialise import specialised
from fusion.strategies.lanes import Lanes
from tests.zoo import ZOO, Example, seeded, text, vision

BAR = 0.97  # never slower than eager; 3 % for noise
HEADS_BAR, HEADS_HELD_BAR = 1.5, 0.3
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "sentence-embedding"
Variant = Callable[[], object]


class Case(NamedTuple):
    """A group to time: `calls[k]` rows of one row each for function k."""

    name: str
    examples: Sequence[Example]
    exports: Sequence[Exported]
    jobs: int = 1  # of each function, one row each
    bar: float = BAR
    held_bar: float | None = None  # weights held, each content once, over those of all functions


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
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()
    budget_s = options.seconds or (1.5 if options.quick else 12.0)
    rows: list[Row] = []
    with Lanes(len(os.sched_getaffinity(0))) as lanes:
        for case in _quick_cases() if options.quick else _cases():
            if options.only in case.name:
                rows += _measure(case, lanes, budget_s)
    return finish(rows, "Fused DAG against separate models", options.json)


def _quick_cases() -> list[Case]:
    mlp, cnn, bert = _small("mlp"), _small("tiny_cnn"), _small("bert")
    return [
        *(_group("MLP", mlp, count) for count in (2, 4, 8)),
        _group("tiny CNN", cnn, 4),
        _group("tiny BERT", bert, 4),
        _mixed([mlp, cnn, bert]),
        _same("MLP", mlp, 8),
        _same("tiny BERT", bert, 8),
        _group("ResNet-18 (64 px)", _large("resnet18", 64), 2),
    ]


def _cases() -> list[Case]:
    small = {n: _small(n) for n in ("mlp", "tiny_cnn", "bert")}
    cases = [_group(n, m, count) for n, m in small.items() for count in (2, 4, 8)]
    cases += [_mixed(list(small.values()))]
    cases += [_same(n, m, jobs) for n, m in small.items() for jobs in (4, 16)]
    for name in ("resnet18", "mobilenet", "resnet50"):
        model = _large(name, 224)
        cases += [_group(f"{name} (224 px)", model, count) for count in (2, 4, 8)]
    cases += [_same("resnet18 (224 px)", _large("resnet18", 224), 4)]
    cases += [_group("BERT (256 wide, 64 tokens)", _bert_small(), count) for count in (2, 4, 8)]
    cases += [_heads(4)]
    return cases


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


def _group(name: str, model: Model, count: int) -> Case:
    """Different functions of one architecture."""
    first = model(0)
    exported = export(first.module, first.inputs, 16)
    examples = [first, *(model(seed) for seed in range(1, count))]
    exports = [exported, *(export(e.module, e.inputs, 16) for e in examples[1:])]
    return Case(f"{name}, {count} functions", examples, exports)


class _WithHead(nn.Module):
    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(384, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.backbone(input_ids, attention_mask)["embeddings"])


def _heads(count: int) -> Case:
    """Functions on MiniLM with its real weights, each with a head of its own."""
    sys.path.insert(0, str(EXAMPLE))
    from handler import example_inputs, load

    backbone, inputs = load().eval(), example_inputs()
    examples, exports = [], []
    for seed in range(count):
        torch.manual_seed(seed)
        module = _WithHead(backbone, 2 + seed).eval()
        examples.append(Example(module, inputs))
        exports.append(export(module, inputs, 16))
    name = f"MiniLM, {count} heads on one backbone"
    return Case(name, examples, exports, bar=HEADS_BAR, held_bar=HEADS_HELD_BAR)


def _mixed(models: Sequence[Model]) -> Case:
    """Different architectures."""
    examples = [model(0) for model in models]
    exports = [export(e.module, e.inputs, 16) for e in examples]
    return Case(f"{len(models)} architectures", examples, exports)


def _same(name: str, model: Model, jobs: int) -> Case:
    """Several callers of one function."""
    example = model(0)
    exported = export(example.module, example.inputs, 16)
    return Case(f"{name}, {jobs} jobs of one function", [example], [exported], jobs)


def _measure(case: Case, lanes: Lanes, budget_s: float) -> list[Row]:
    dag_run, note = _fused(case, lanes)
    variants: dict[str, Variant] = {"fused": dag_run, "eager": _eager(case)}
    variants["eager-1"] = _one_thread(variants["eager"])
    variants["generated"] = _generated(case)
    recipe = _fusedinf(case)
    if recipe is not None:
        variants["fusedinf"] = recipe
    with torch.inference_mode():
        times = _round_robin(variants, budget_s)
    fused = times["fused"]
    print(f"{case.name}: {note()}" + ("" if recipe else "; fusedinf cannot run"), file=sys.stderr)
    rows = [
        Row(f"{case.name}: {name} {_spread(t)}", t.median_s * 1e3, "ms")
        for name, t in times.items()
    ]
    rows.append(Row(f"{case.name}: eager / fused", _ratio(times["eager"], fused), "x", case.bar))
    if case.held_bar is not None:
        rows.append(Row(f"{case.name}: weights held", _held(case), "x", case.held_bar, False))
    rows += [
        Row(f"{case.name}: {name} / fused", _ratio(times[name], fused), "x")
        for name in ("eager-1", "generated", "fusedinf")
        if name in times
    ]
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
    names = list(variants)
    started_s, rounds = perf_counter(), 0
    while rounds < 9 or (perf_counter() - started_s < budget_s and rounds < 2000):
        for name in names:
            run_started_s = perf_counter()
            variants[name]()
            times_s[name].append(perf_counter() - run_started_s)
        names = names[1:] + names[:1]  # nobody always follows the same neighbour
        rounds += 1
    return {name: _timing(times[2:]) for name, times in times_s.items()}


def _timing(times_s: Sequence[float]) -> Timing:
    tenths = quantiles(times_s, n=10)
    return Timing(median(times_s), tenths[0], tenths[-1])


def _row(example: Example, index: int) -> dict[str, Tensor]:
    return {name: x[index % 2 : index % 2 + 1] for name, x in example.inputs.items()}


def _fused(case: Case, lanes: Lanes) -> tuple[Variant, Callable[[], str]]:
    """As the product runs it, after its own trials."""
    members = [Member(specialised(e.graph, "cpu"), case.jobs, keys_of(e)) for e in case.exports]
    dag = build(members, lanes)
    calls = [
        Call(
            list(case.exports[k].weights.values()),
            [list(_row(case.examples[k], j).values()) for j in range(case.jobs)],
        )
        for k in arrange(members)
    ]
    dag.run(calls)
    while not dag.choice.is_settled:
        dag.run(calls)

    def note() -> str:
        trials = {name: f"{s * 1e3:.3g} ms" for name, s in dag.measured.items()}
        return f"{dag.strategy} of {trials or 'one'}, built in {dag.build_s * 1e3:.1f} ms"

    return lambda: dag.run(calls), note


def _eager(case: Case) -> Variant:
    work = [
        (e.module, [tuple(_row(e, j).values()) for j in range(case.jobs)]) for e in case.examples
    ]
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


def _generated(case: Case) -> Variant:
    work = [
        (specialised(x.graph, "cpu").run, list(x.weights.values()), list(_row(e, j).values()))
        for x, e in zip(case.exports, case.examples, strict=True)
        for j in range(case.jobs)
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
    jobs = [[next(iter(_row(e, j).values())) for e in case.examples] for j in range(case.jobs)]
    return lambda: [graph(inputs) for inputs in jobs]


if __name__ == "__main__":
    sys.exit(main())
