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

A row of ratios is `other / fused`, of medians: above 1, fused is faster. No bar is below 0.97: 1.0
less 3 % for noise; losses are shown. Beside it stand where the ratio lies, 95 times in 100, and of
how many runs it is (`_intervals.py`): a case runs for --seconds, and up to four times as long while
that is wide or its bar lies in it. Figures are worth quoting only from an otherwise idle machine.

Architectures are compiled first, as the platform does in the background after some hundred runs;
packages are kept in a folder, so that a second run does without. `--zoo` takes every model of the
tests' zoo instead, in groups of 1, 2, 4 and 8, against the same tiers apart alone, nothing
compiled: 72 cases of 12 s at most.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import _variants as ways
import torch
from _cases import BAR, Case, Cases, full_cases, held, quick_cases, zoo_cases
from _report import Row, finish
from _timing import Length, Times, round_robin
from _variants import Bench, Programs

from fusion.codegen import Program
from fusion.compiled import has_compiler
from fusion.strategies.lanes import Lanes

# per case; and how many times as long where its ratios stay open
FULL_S, ZOO_S, QUICK_S, STRETCH = 5.0, 3.0, 0.4, 4
PACKAGES = Path(__file__).resolve().parents[1] / ".fusebox" / "bench-packages"


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases; under a minute")
    parser.add_argument(
        "--seconds", type=float, help=f"per case at least; {FULL_S:g}, or {ZOO_S:g} with --zoo"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names have it")
    parser.add_argument("--zoo", action="store_true", help="every model of the tests' zoo")
    parser.add_argument("--no-compile", action="store_true", help="generated code and oneDNN only")
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="of compiled code")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()
    usual_s = QUICK_S if options.quick else ZOO_S if options.zoo else FULL_S
    least_s = options.seconds or usual_s
    length = Length(least_s, STRETCH * least_s)
    is_compiled = has_compiler() and not (options.quick or options.zoo or options.no_compile)
    programs = Programs(options.packages if is_compiled else None)
    rows: list[Row] = []
    with Lanes(len(os.sched_getaffinity(0))) as lanes:
        for name, make in _chosen_cases(options):
            if options.only in name:
                rows += _measure(make(name), Bench(programs, lanes, length))
    return finish(rows, "Fused DAG against separate models", options.json)


def _chosen_cases(options: argparse.Namespace) -> Cases:
    if options.zoo:
        return zoo_cases()
    return quick_cases() if options.quick else full_cases()


def _measure(case: Case, bench: Bench) -> list[Row]:
    programs = [bench.programs.of(e.graph) for e in case.exports]
    with ways.resident(case) as weights:
        return _compare(case, weights, programs, bench)


def _compare(
    case: Case, weights: ways.Weights, programs: Sequence[Program], bench: Bench
) -> list[Row]:
    dag_run, note = ways.fused(case, weights, programs, bench)
    variants: dict[str, ways.Variant] = {"fused": dag_run}
    variants["apart"] = ways.apart(case, weights, programs)
    recipe = None
    if not case.is_zoo:
        variants["bare"] = ways.bare(case, weights, programs)
        variants["eager"] = ways.eager(case)
        variants["eager-1"] = ways.one_thread(variants["eager"])
        recipe = ways.fusedinf(case)
        if recipe is not None:
            variants["fusedinf"] = recipe
    bars = {"apart": BAR, "eager": case.bar, "fusedinf": BAR}
    with torch.inference_mode():
        times = round_robin(variants, bench.length, bars, "fused")
    missing = "" if recipe or case.is_zoo else "; fusedinf cannot run"
    print(f"{case.name}: {note()}{missing}", file=sys.stderr)
    rows = [
        Row(f"{case.name}: {name} {_spread(t)}", t.median_s * 1e3, "ms")
        for name, t in times.items()
    ]
    rows += [
        _ratio(f"{case.name}: {name} / fused", times[name], times["fused"], bars.get(name))
        for name in ("eager", "eager-1", "apart", "bare", "fusedinf")
        if name in times
    ]
    if case.held_bar is not None:
        rows.append(Row(f"{case.name}: weights held", held(case), "x", case.held_bar, False))
    return rows


def _ratio(name: str, other: Times, fused: Times, bar: float | None) -> Row:
    return Row(name, other.over(fused), "x", bar, interval=other.interval_over(fused))


def _spread(times: Times) -> str:
    low_s, high_s = times.tenths_s
    return f"(p10 {low_s * 1e3:.3g}, p90 {high_s * 1e3:.3g})"


if __name__ == "__main__":
    sys.exit(main())
