"""How soon is a function ready to run, from a cold file and from a warm one?

Ways to be ready, in turn in one process, on CPU:
  slot       SlotTable.acquire, as a worker does for a function it has run before: its graph's code
             is kept, its weights are not; digests were compared when the artifact was accepted
  anew       the same for a function of an architecture that this worker has never seen: graph and
             header are read and code is generated first
  naive      the module is built, torch.load, load_state_dict
  tuned      the module is built on the meta device, torch.load(mmap=True), and its state assigned

Ready means that the first run waits for no weights. A mapped file that is not read yet would be
charged to that run, so every way ends by reading a byte of each page of each tensor, and the time
counts. Slots hold what deploying made of the weights: batch norms are folded, so they are some
bytes fewer than the module's.

Cold: the file was dropped from the page cache (posix_fadvise, checked by mincore; below a virtual
machine the host may still have it). Warm: all of it is in the page cache. What copying and reading
the same bytes takes is timed beside: `copy`, one thread in memory, and `direct`, O_DIRECT in
blocks of 4 MiB, one after another, as `dd iflag=direct bs=4M`.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import torch
from _files import PAGE_BYTES, Copy, DirectReads, drop, warm
from _report import Row, finish
from _timing import Times
from torch import Tensor, nn

from fusion.export import export
from fusion.ir import Graph
from fusion.loaders import MappedLoader
from fusion.slots import SlotRequest, SlotTable
from fusion.specialise import specialised
from fusion.weights import read_index, write_weights
from tests.zoo import Example, seeded, text, vision

NAIVE_BAR, TUNED_BAR = 10.0, 2.5
COPY_BAR, DIRECT_BAR = 0.8, 0.7
ROUNDS, QUICK_ROUNDS = 11, 3
Build = Callable[[], nn.Module]
Tokens = dict[str, Tensor]


class Way(NamedTuple):
    """A way to be ready: `run` is timed, `prepare` before it is not."""

    prepare: Callable[[], object]
    run: Callable[[], object]


def main() -> int:
    """Measure every model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small model; some seconds")
    parser.add_argument("--rounds", type=int, help=f"of each way; {ROUNDS}")
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose names have it")
    parser.add_argument("--folder", metavar="DIR", help="on the disk to measure; a temporary one")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    rows: list[Row] = []
    for name, (build, inputs) in (QUICK if options.quick else MODELS).items():
        if options.only in name:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                print(f"exporting {name}", file=sys.stderr)
                files = _Files(Path(folder), build, inputs)
                rows += _measure(name, files, rounds)
    return finish(rows, "Time to ready, and bandwidth, of swapping weights in", options.json)


class _Files:
    """A model as Fusebox deploys it, and as a checkpoint."""

    def __init__(self, folder: Path, build: Build, inputs: Callable[[], Tokens]) -> None:
        self.build = build
        self.weights, self.checkpoint = folder / "weights.safetensors", folder / "model.pt"
        self.graph = folder / "graph.json"
        example: Example = seeded(build, inputs)
        made = export(example.module, example.inputs, 16)
        write_weights(self.weights, made.weights)
        self.graph.write_bytes(made.graph.encode())
        torch.save(example.module.state_dict(), self.checkpoint)

    def request(self) -> SlotRequest:
        return SlotRequest("f@1", self.weights, read_index(self.weights), is_verified=True)


def _measure(name: str, files: _Files, rounds: int) -> list[Row]:
    table = SlotTable(MappedLoader(), 2**40)
    request = files.request()
    file_bytes = request.index.file_bytes
    rows = [Row(f"{name}: weights file", file_bytes / 1e6, "MB")]
    for state, set_state, limit, limit_bar in (
        ("cold", drop, "direct", DIRECT_BAR),
        ("warm", warm, "copy", COPY_BAR),
    ):

        def prepare(path: Path, set_state: Callable[[Path], None] = set_state) -> None:
            table.evict(request.key)
            # modules of the way before may hold maps
            gc.collect()
            set_state(path)

        with _moving(limit, files.weights, file_bytes) as move:
            ours, theirs = partial(prepare, files.weights), partial(prepare, files.checkpoint)
            ways = {
                "slot": Way(ours, lambda: _into_slot(table, request)),
                "anew": Way(ours, lambda: _read_anew(table, files)),
                "naive": Way(theirs, lambda: _naive(files)),
                "tuned": Way(theirs, lambda: _tuned(files)),
                limit: Way(ours, move),
            }
            times = _timed(ways, rounds)
        bars = {"anew": None, "naive": NAIVE_BAR, "tuned": TUNED_BAR, limit: limit_bar}
        rows += _rows(f"{name}, {state}", times, bars, file_bytes)
    return rows


def _rows(
    case: str, times: dict[str, Times], bars: dict[str, float | None], file_bytes: int
) -> list[Row]:
    slot = times["slot"]
    rows = [Row(f"{case}: {way} {_spread(t)}", t.median_s * 1e3, "ms") for way, t in times.items()]
    rows.append(Row(f"{case}: slot, bandwidth", file_bytes / slot.median_s / 1e9, "GB/s"))
    return rows + [
        Row(
            f"{case}: {way} / slot",
            times[way].over(slot),
            "x",
            bar,
            interval=times[way].interval_over(slot),
        )
        for way, bar in bars.items()
    ]


@contextmanager
def _moving(limit: str, path: Path, bytes_: int) -> Iterator[Callable[[], object]]:
    """What only moves the bytes: `copy` or `direct`."""
    if limit == "copy":
        yield Copy(bytes_).run
        return
    reads = DirectReads(path)
    try:
        yield reads.read
    finally:
        reads.close()


def _into_slot(table: SlotTable, request: SlotRequest) -> None:
    with table.acquire([request]) as lease:
        _touch(lease.tensors(request.key))


def _read_anew(table: SlotTable, files: _Files) -> None:
    specialised(Graph.decode(files.graph.read_bytes()), "cpu")
    _into_slot(table, files.request())


def _naive(files: _Files) -> None:
    module = files.build()
    module.load_state_dict(torch.load(files.checkpoint, weights_only=True))
    _touch(module.eval().state_dict().values())


def _tuned(files: _Files) -> None:
    with torch.device("meta"):
        module = files.build()
    state = torch.load(files.checkpoint, mmap=True, weights_only=True)
    module.load_state_dict(state, assign=True)
    _touch(module.eval().state_dict().values())


def _touch(tensors: Any) -> None:
    """Read a byte of every page."""
    for tensor in tensors:
        if tensor.numel():
            int(tensor.detach().reshape(-1).view(torch.uint8)[::PAGE_BYTES].max())


def _timed(ways: dict[str, Way], rounds: int) -> dict[str, Times]:
    """Each way in turn, in an order that changes; the first round is to warm up."""
    runs_s: dict[str, list[float]] = {name: [] for name in ways}
    names, order = list(ways), random.Random(0)
    for _ in range(rounds + 1):
        for name in names:
            ways[name].prepare()
            began_s = perf_counter()
            ways[name].run()
            runs_s[name].append(perf_counter() - began_s)
        order.shuffle(names)
    return {name: Times(found[1:]) for name, found in runs_s.items()}


def _spread(times: Times) -> str:
    low_s, high_s = times.tenths_s
    return f"(p10 {low_s * 1e3:.3g}, p90 {high_s * 1e3:.3g})"


def _bert_base() -> nn.Module:
    """12 layers, 768 wide, 3072 in between."""
    model = text.Bert(30522, 768, 12, 12)
    for layer in model.layers:
        layer.up, layer.down = nn.Linear(768, 3072), nn.Linear(3072, 768)
    return model


def _image() -> Tokens:
    return {"x": torch.randn(2, 3, 64, 64)}


def _tokens() -> Tokens:
    return {"ids": torch.randint(0, 30522, (2, 16)), "mask": torch.ones(2, 16, dtype=torch.int64)}


MODELS: dict[str, tuple[Build, Callable[[], Tokens]]] = {
    "ResNet-18": (partial(vision.resnet18, 64, 1000), _image),
    "ResNet-50": (partial(vision.resnet50, 64, 1000), _image),
    "BERT-base-sized": (_bert_base, _tokens),
}
QUICK = {"small ResNet-18": (partial(vision.resnet18, 16, 10), _image)}

if __name__ == "__main__":
    sys.exit(main())
