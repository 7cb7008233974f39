"""Swapping on a GPU: the bandwidth of a swap-in, and what a first run costs over a warm one.

Needs torch, numpy, safetensors and msgpack alone, and a checkout. Functions are swapped as a worker
swaps them: an arena, pinned copies, a run that begins while its weights arrive. Per model:
  swap-in / pinned copy   bytes a second of an acquire from pinned memory until the device has all,
                          over those of one copy of as many pinned bytes, in turn
  from disk               the same from a file whose page cache was dropped, in bytes a second
  cold - warm             seconds of a run of 8 rows from pinned memory less those of a warm one,
                          and how much that is beyond max(0, bytes / bandwidth - compute)
TF32 is off. Weights are compared to the bit after every swap, outputs with a warm run's.

`--dry-run` goes through everything on the CPU with small models, on memory whose copies run late:
its rows are not measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import torch
from _gpu_inception import inception_v3
from _gpu_models import BERT
from _report import Row, finish
from torch import Tensor

from fusion.blocks.steps import sink_views
from fusion.codegen import Program, generate
from fusion.export import export
from fusion.ir import Graph
from fusion.slots import Lease, SlotRequest, SlotTable
from fusion.swapping.arriving import Arriving
from fusion.swapping.backend import Copies
from fusion.swapping.loader import ArenaLoader
from fusion.swapping.weights import ArrivingWeights
from fusion.weights import write_weights
from tests.unit.fusion_swapping.cpu_copies import CpuCopies
from tests.zoo import ZOO, Example, seeded, vision

BANDWIDTH_BAR, BEYOND_BAR_MS, TOLERANCE = 0.90, 2.0, 1e-4
ROWS = 8
MIB = 2**20
DIFFERENCE = "largest difference, relative"
WRONG = "tensors that differ after a swap"


def _photo(size: int) -> dict[str, Tensor]:
    return {"x": torch.randn(2, 3, size, size)}


MODELS: Mapping[str, Callable[[], Example]] = {
    "ResNet-152": lambda: seeded(
        partial(vision.resnet50, classes=1000, depths=(3, 8, 36, 3)), partial(_photo, 224)
    ),
    "Inception-V3": lambda: seeded(inception_v3, partial(_photo, 299)),
    "BERT-base": lambda: BERT(0),
}
DRY_MODELS: Mapping[str, Callable[[], Example]] = {
    "ResNet-152": ZOO["resnet50"],
    "Inception-V3": ZOO["tiny_cnn"],
    "BERT-base": ZOO["bert"],
}


class Bench(NamedTuple):
    """What every case is measured with."""

    copies: Copies
    device: torch.device
    is_dry: bool
    rounds: int


class Stored(NamedTuple):
    """A function as deployed, and what it is called with."""

    name: str
    graph: Graph
    program: Program
    request: SlotRequest
    weights: Mapping[str, Tensor]  # host
    inputs: list[Tensor]  # [ROWS, ...] each, device


class Spread(NamedTuple):
    """Seconds of one variant."""

    median_s: float
    low_s: float
    high_s: float

    @property
    def text(self) -> str:
        """10th and 90th percentile, ms."""
        return f"(p10 {self.low_s * 1e3:.3g}, p90 {self.high_s * 1e3:.3g})"


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--dry-run", action="store_true", help="every step on the CPU, unmeasured")
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose names have it")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()
    problem = None if options.dry_run else missing()
    if problem is not None:
        print(f"gpu_swap: {problem}; --dry-run goes through it without one", file=sys.stderr)
        return 2
    bench = _bench(options)
    rows: list[Row] = []
    models = DRY_MODELS if bench.is_dry else MODELS
    with tempfile.TemporaryDirectory(prefix="gpu_swap-") as folder:
        for name, make in models.items():
            if options.only in name:
                print(name, file=sys.stderr)
                rows += _measured(_stored(name, make(), Path(folder), bench), bench)
    if bench.is_dry:
        kept = (WRONG, DIFFERENCE)
        rows = [row if row.case.endswith(kept) else _unmeasured(row) for row in rows]
    return finish(rows, "Swapping on a GPU", options.json)


def missing() -> str | None:
    """What a measurement lacks here."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None


def _bench(options: argparse.Namespace) -> Bench:
    if options.dry_run:
        return Bench(CpuCopies(), torch.device("cpu"), True, 2)
    from fusion.swapping.cuda import CudaCopies

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return Bench(CudaCopies(0), torch.device("cuda", 0), False, 5 if options.quick else 30)


def _unmeasured(row: Row) -> Row:
    """Without its value and its spread."""
    return row._replace(case=row.case.partition(" (p10")[0], value=None)


def _stored(name: str, example: Example, folder: Path, bench: Bench) -> Stored:
    made = export(example.module, example.inputs, ROWS)
    path = folder / f"{name}.safetensors"
    request = SlotRequest(name, path, write_weights(path, made.weights), is_verified=True)
    inputs = []
    for spec in made.graph.inputs:
        x = example.inputs[spec.name]
        inputs.append(x.repeat(ROWS // len(x), *[1] * (x.dim() - 1)).to(bench.device))
    graph = sink_views(made.graph)
    return Stored(name, graph, generate(made.graph), request, made.weights, inputs)


def _measured(stored: Stored, bench: Bench) -> list[Row]:
    name, bytes_ = stored.name, stored.request.index.data_bytes
    with torch.inference_mode(False):
        table, loader = _table(bytes_, bench)
        copy = _pinned_copy(bytes_, loader, bench)
    wrong = 0
    times: dict[str, list[float]] = {way: [] for way in ("copy", "swap", "disk", "cold", "warm")}
    differences: list[float] = []
    for number in range(bench.rounds + 2):
        found = {
            "copy": _seconds(copy, bench),
            "swap": _swap_s(stored, table, bench),
        }
        wrong += _wrong(stored, table)
        found["cold"], cold = _run_s(stored, table, bench, is_cold=True)
        found["warm"], warm = _run_s(stored, table, bench, is_cold=False)
        differences.append(_difference(cold, warm))
        found["disk"] = _disk_s(stored, bench)
        if number >= 2:  # the first ones make what later ones have
            for way, seconds in found.items():
                times[way].append(seconds)
    spreads = {way: _spread(its) for way, its in times.items()}
    bandwidth = bytes_ / spreads["copy"].median_s
    beyond_s = [
        cold - warm - max(0.0, bytes_ / bandwidth - warm)
        for cold, warm in zip(times["cold"], times["warm"], strict=True)
    ]
    share = spreads["copy"].median_s / spreads["swap"].median_s
    slower_s = spreads["cold"].median_s - spreads["warm"].median_s
    return [
        *(Row(f"{name}: {way} {t.text}", t.median_s * 1e3, "ms") for way, t in spreads.items()),
        Row(f"{name}: bytes", bytes_ / 1e6, "MB"),
        Row(f"{name}: pinned copy", bandwidth / 1e9, "GB/s"),
        Row(f"{name}: swap-in / pinned copy, bandwidth", share, "", BANDWIDTH_BAR),
        Row(f"{name}: from disk", bytes_ / spreads["disk"].median_s / 1e9, "GB/s"),
        Row(f"{name}: cold - warm", slower_s * 1e3, "ms"),
        Row(
            f"{name}: cold - warm, beyond what copying takes longer than computing",
            median(beyond_s) * 1e3, "ms", BEYOND_BAR_MS, False,
        ),
        Row(f"{name}: {WRONG}", wrong, "", 0.0, False),
        Row(f"{name}: {DIFFERENCE}", max(differences), "", TOLERANCE, False),
    ]  # fmt: skip


def _table(
    bytes_: int, bench: Bench, host_bytes: int | None = None
) -> tuple[SlotTable, ArenaLoader]:
    arena_bytes = 2 * bytes_ + 2 * MIB
    host_bytes = 2 * bytes_ + 64 * MIB if host_bytes is None else host_bytes
    loader = ArenaLoader(bench.copies, arena_bytes, host_bytes)
    return SlotTable(loader, arena_bytes), loader


def _pinned_copy(bytes_: int, loader: ArenaLoader, bench: Bench) -> Callable[[], None]:
    """One copy of as many bytes."""
    source, target = bench.copies.host_memory(bytes_), loader.memory()[:bytes_]

    def copy() -> None:
        bench.copies.copy(target, source)
        bench.copies.wait(bench.copies.mark())

    return copy


def _swap_s(stored: Stored, table: SlotTable, bench: Bench) -> float:
    """From pinned memory until the device has all of it."""
    key = stored.request.key
    if key not in table.stats().resident:
        table.acquire([stored.request]).release()
    table.evict(key)

    def swap() -> None:
        with table.acquire([stored.request]) as lease:
            lease.tensors(key)

    return _seconds(swap, bench)


def _disk_s(stored: Stored, bench: Bench) -> float:
    """From a file that nobody has in memory, in a table of its own, whose memory is there."""
    table, loader = _DISK.get(id(bench.copies), (None, None))
    index = stored.request.index
    if loader is None or loader.arena_bytes < index.data_bytes + MIB:
        table, loader = _table(index.data_bytes, bench, 0)
        loader.memory()
        _DISK[id(bench.copies)] = table, loader
    assert table is not None
    with stored.request.path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def swap() -> None:
        with table.acquire([stored.request]) as lease:
            lease.tensors(stored.request.key)

    seconds = _seconds(swap, bench)
    table.evict(stored.request.key)
    return seconds


_DISK: dict[int, tuple[SlotTable | None, ArenaLoader | None]] = {}


@torch.inference_mode()
def _run_s(
    stored: Stored, table: SlotTable, bench: Bench, is_cold: bool
) -> tuple[float, list[Tensor]]:
    """A run of 8 rows, its lease included; a cold one as a worker makes it."""
    if is_cold:
        table.evict(stored.request.key)
    found: list[Tensor] = []

    def run() -> None:
        with table.acquire([stored.request]) as lease:
            weights = lease.slots[stored.request.key].weights
            assert isinstance(weights, ArrivingWeights)
            if is_cold:
                found[:] = ARRIVING.run(stored.graph, stored.request.index, weights, stored.inputs)
            else:
                found[:] = stored.program.run(_in_order(stored, lease), stored.inputs)

    return _seconds(run, bench), found


ARRIVING = Arriving()


def _in_order(stored: Stored, lease: Lease) -> list[Tensor]:
    key = stored.request.key
    by_name = dict(zip(lease.names(key), lease.tensors(key), strict=True))
    return [by_name[spec.name] for spec in stored.program.graph.weights]


def _wrong(stored: Stored, table: SlotTable) -> int:
    with table.acquire([stored.request]) as lease:
        key = stored.request.key
        found = dict(zip(lease.names(key), lease.tensors(key), strict=True))
        return sum(
            not torch.equal(found[name].cpu(), weight) for name, weight in stored.weights.items()
        )


def _difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max(
        float((a.double() - b.double()).abs().max()) / max(1.0, float(b.double().abs().max()))
        for a, b in zip(found, expected, strict=True)
    )


def _seconds(run: Callable[[], object], bench: Bench) -> float:
    """Until the device is done."""
    _synchronize(bench)
    began_s = perf_counter()
    run()
    _synchronize(bench)
    return perf_counter() - began_s


def _synchronize(bench: Bench) -> None:
    if bench.device.type == "cuda":
        torch.cuda.synchronize(bench.device)


def _spread(times_s: Sequence[float]) -> Spread:
    tenths = quantiles(times_s, n=10)
    return Spread(median(times_s), tenths[0], tenths[-1])


if __name__ == "__main__":
    sys.exit(main())
