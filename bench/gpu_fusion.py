"""What fusing saves on a GPU: captured groups against eager models and against their CUDA graphs.

Needs torch, numpy and safetensors alone, and a checkout. Variants run round robin in one process:
  eager          the models one after another
  eager graphs   each model captured as a CUDA graph by itself, replayed one after another
  fused          FusedDag, as a worker runs the group once it is captured: the fastest of its ways
  graphs, streams, children   each way by itself (docs/fusion.md)
Graphs copy their inputs in and their outputs out, and all are compared with eager outputs. TF32 is
off in all of them.

A row of ratios is `other / fused`: above 1, fused is faster. `--dry-run` goes through everything
on the CPU with small models, where nothing is captured but recorded: its rows are not measured.
"""

import argparse
import gc
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import torch
from _gpu_memory import memory_rows, serve_child
from _gpu_models import Make, Packed, Placed, first_exported, flat, like, packed, popular
from _gpu_variants import (
    ROOM_BYTES,
    Variant,
    captured,
    difference,
    eager_graphs,
    fused,
    member_of,
    ways_of,
)  # fmt: skip
from _report import Row, finish
from torch import Tensor

from fusion.codegen import Program
from fusion.errors import CaptureError
from fusion.graphs.backend import Backend
from fusion.graphs.group import CHILDREN, STREAMS, WAYS, Way, run_all
from fusion.graphs.member import MemberGraph
from tests.unit.fusion_graphs.cpu_backend import CpuBackend

EAGER_BAR, GRAPHS_BAR, MANY_BAR, COMBINATION_BAR = 4.0, 1.5, 6.0, 10.0
MANY, MIXED, COMBINED = 32, 8, 4
DRY_MANY, DRY_MIXED, DRY_COMBINED = 2, 3, 2
TOLERANCE = 1e-4
DIFFERENCE = "largest difference, relative"


class Bench(NamedTuple):
    """What every case is measured with."""

    backend: Backend
    is_dry: bool
    many: int  # functions of one architecture
    mixed: int  # architectures
    combined: int  # of them in a new combination
    seconds: float  # of a case
    rounds: int  # at least


class Timing(NamedTuple):
    """Seconds of one variant."""

    median_s: float
    low_s: float  # 10th percentile
    high_s: float  # 90th percentile


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="8 functions in place of 32")
    parser.add_argument("--dry-run", action="store_true", help="every step on the CPU, unmeasured")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each case")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names have it")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--child", choices=("fused", "separate"), help=argparse.SUPPRESS)
    parser.add_argument("--names", nargs="+", default=(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    problem = None if options.dry_run else missing()
    if problem is not None:
        print(f"gpu_fusion: {problem}; --dry-run goes through it without one", file=sys.stderr)
        return 2
    bench = _bench(options)
    if options.child:
        return serve_child(bench.backend, options.dry_run, options.child, options.names)
    rows: list[Row] = []
    for name, case in CASES.items():
        if options.only in name:
            print(name, file=sys.stderr)
            with torch.inference_mode():
                rows += case(name, bench)
            _free(bench)
    if bench.is_dry:
        rows = [row if DIFFERENCE in row.case else _unmeasured(row) for row in rows]
    return finish(rows, "Fused execution on a GPU", options.json)


def _unmeasured(row: Row) -> Row:
    """Without its value and its spread."""
    return row._replace(case=row.case.partition(" (p10")[0], value=None)


def missing() -> str | None:
    """What a measurement lacks here."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None


def _bench(options: argparse.Namespace) -> Bench:
    if options.dry_run:
        return Bench(CpuBackend(), True, DRY_MANY, DRY_MIXED, DRY_COMBINED, 0.0, 2)
    from fusion.graphs.cuda import CudaBackend

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    many = MIXED if options.quick else MANY
    backend = CudaBackend(0)
    return Bench(backend, False, many, MIXED, COMBINED, options.seconds, 12)


def _mixed(name: str, bench: Bench) -> list[Row]:
    packs = first_exported(popular(bench.is_dry), bench.mixed)
    print(", ".join(pack.name for pack in packs), file=sys.stderr)
    bars = {"eager": EAGER_BAR, "eager graphs": GRAPHS_BAR}
    return _compare(name, _placed(packs, bench), bench, bars)


def _many(model: str, name: str, bench: Bench) -> list[Row]:
    make = like(model, bench.is_dry)
    packs = (packed(f"{model} {seed}", make, seed) for seed in range(bench.many))
    return _compare(name, _placed(packs, bench), bench, {"eager": MANY_BAR})


def _placed(packs: Sequence[Packed] | Iterator[Packed], bench: Bench) -> list[Placed]:
    programs: dict[str, Program] = {}
    return [pack.placed(bench.backend.device, programs) for pack in packs]


def _compare(
    name: str, functions: Sequence[Placed], bench: Bench, bars: Mapping[str, float]
) -> list[Row]:
    with ExitStack() as stack:
        graphs = captured(functions, bench.backend)
        stack.callback(graphs.cache.shrink, ROOM_BYTES)
        variants: dict[str, Variant] = {
            "eager": lambda: [function.eager() for function in functions],
            "fused": fused(functions, graphs),
        }
        members = [member_of(function, graphs) for function in functions]
        variants |= ways_of(functions, members, bench.backend, stack)
        own = eager_graphs(functions, bench.backend, stack)
        if own is not None:
            variants["eager graphs"] = own
        expected = variants["eager"]()
        found = {way: difference(run(), expected) for way, run in variants.items()}
        times = _round_robin(variants, bench)
    others = [way for way in dict.fromkeys([*times, *bars]) if way != "fused"]
    return [
        *(Row(f"{name}: {way} {_spread(t)}", t.median_s * 1e3, "ms") for way, t in times.items()),
        *(
            Row(f"{name}: {way} / fused", _ratio(times, way, "fused"), "x", bars.get(way))
            for way in others
        ),
        *(
            Row(f"{name}: {way}, {DIFFERENCE}", value, "", TOLERANCE, False)
            for way, value in found.items()
            if way != "eager"
        ),
    ]


def _combination(name: str, bench: Bench) -> list[Row]:
    """The first run of groups that nobody has run yet, of members that are captured."""
    functions = _placed(first_exported(popular(bench.is_dry), bench.mixed), bench)
    graphs = captured(functions, bench.backend)
    known = [(f, member) for f in functions if (member := member_of(f, graphs)) is not None]
    groups = list(combinations(known, bench.combined))
    random.Random(0).shuffle(groups)
    times_s: dict[str, list[float]] = {way: [] for way in (STREAMS, CHILDREN)}
    for group in groups[: 2 * bench.rounds]:
        for way in times_s:
            try:
                times_s[way].append(_first_run(way, group, bench))
            except CaptureError as error:
                print(f"{way} is left out: {error}", file=sys.stderr)
    graphs.cache.shrink(ROOM_BYTES)
    times = {way: _timing(its) for way, its in times_s.items() if len(its) > 1}
    rows = [
        Row(f"{name}: first run, {way} {_spread(t)}", t.median_s * 1e3, "ms")
        for way, t in times.items()
    ]
    ratio = _ratio(times, STREAMS, CHILDREN)
    return [*rows, Row(f"{name}: captured anew / assembled", ratio, "x", COMBINATION_BAR)]


def _first_run(way: str, group: Sequence[tuple[Placed, MemberGraph]], bench: Bench) -> float:
    """Seconds to make the group's graph in this way and run it once; it is closed again."""
    members = [member for _, member in group]
    made: list[Way] = []

    def make_and_run() -> None:
        made.append(WAYS[way](bench.backend, [function.part for function, _ in group], members))
        run_all(members, made[0], [function.inputs for function, _ in group])

    try:
        return bench.backend.seconds(make_and_run)
    finally:
        for each in made:
            each.captured.close()


def _swapped(name: str, bench: Bench) -> list[Row]:
    return [
        row
        for model in ("ResNet-50", "BERT-base")
        for row in _swap(f"{name}, {model}", like(model, bench.is_dry), bench)
    ]


def _swap(name: str, make: Make, bench: Bench) -> list[Row]:
    """New weights come to where a graph reads them; nothing is captured again."""
    hosts = [packed(name, make, seed) for seed in (0, 1)]
    here, other = _placed(hosts, bench)
    # the first's inputs for both: each expected output is its own model's
    expected = [here.eager(), flat(other.module(*here.inputs))]
    graphs = captured([here], bench.backend)
    sources = [_source(host) for host in hosts]
    times_s, differences, replayed = [], [], 0
    for k in range(2 * bench.rounds):
        found: list[list[Tensor] | None] = []

        def swap_and_run(source: Tensor = sources[k % 2], found: list = found) -> None:  # type: ignore[type-arg]
            here.data.copy_(source, non_blocking=True)
            found.append(graphs.run(here.program, 1, here.weights, here.inputs))

        times_s.append(bench.backend.seconds(swap_and_run))
        if found[0] is not None:
            replayed += 1
            differences.append(difference([found[0]], [expected[k % 2]]))
    captures = graphs.cache.stats().captures
    graphs.cache.shrink(ROOM_BYTES)
    timing = _timing(times_s)
    return [
        Row(f"{name}: copy and replay {_spread(timing)}", timing.median_s * 1e3, "ms"),
        Row(f"{name}: runs replayed", replayed / len(times_s), "", 1.0),
        Row(f"{name}: captures", captures, "", 1.0, False),
        Row(f"{name}: {DIFFERENCE}", max(differences, default=None), "", TOLERANCE, False),
    ]


def _source(host: Packed) -> Tensor:
    """Weights as a worker holds them on the host."""
    return host.data.pin_memory() if torch.cuda.is_available() else host.data.clone()


def _round_robin(variants: Mapping[str, Variant], bench: Bench) -> dict[str, Timing]:
    """Each variant in turn, in an order that changes; the first two rounds are not counted."""
    times_s: dict[str, list[float]] = {name: [] for name in variants}
    names, order = list(variants), random.Random(0)
    started_s, rounds = perf_counter(), 0
    while rounds < bench.rounds + 2 or perf_counter() - started_s < bench.seconds:
        for name in names:
            times_s[name].append(bench.backend.seconds(variants[name]))
        order.shuffle(names)
        rounds += 1
    return {name: _timing(times[2:]) for name, times in times_s.items()}


def _timing(times_s: Sequence[float]) -> Timing:
    tenths = quantiles(times_s, n=10)
    return Timing(median(times_s), tenths[0], tenths[-1])


def _ratio(times: Mapping[str, Timing], other: str, name: str) -> float | None:
    if other not in times or name not in times:
        return None
    return times[other].median_s / times[name].median_s


def _spread(timing: Timing) -> str:
    return f"(p10 {timing.low_s * 1e3:.3g}, p90 {timing.high_s * 1e3:.3g})"


def _memory(name: str, bench: Bench) -> list[Row]:
    names = [pack.name for pack in first_exported(popular(bench.is_dry), bench.mixed)]
    return memory_rows(name, Path(__file__), bench.is_dry, names)


def _free(bench: Bench) -> None:
    """What a case has left is not the next one's."""
    gc.collect()
    if not bench.is_dry:
        torch.cuda.empty_cache()


Case = Callable[[str, Bench], list[Row]]
CASES: dict[str, Case] = {
    "memory": _memory,
    "8 architectures": _mixed,
    "many ResNet-50": partial(_many, "ResNet-50"),
    "many BERT-base": partial(_many, "BERT-base"),
    "new combination": _combination,
    "swap-in": _swapped,
}


if __name__ == "__main__":
    sys.exit(main())
