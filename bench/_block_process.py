"""One process that runs a model whole and in blocks: `prepare NAME FOLDER`, `time ...`, `peak ...`.

One thread computes: the other core is the readers'. The whole model has a copy of the file of its
own, for what it maps cannot be dropped from the page cache.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import numpy as np
import torch
from _block_models import MODELS, SMALL_MODELS
from _timing import Length, round_robin
from torch import Tensor

from fusion.blocks.body import BlockedGraph, in_blocks
from fusion.blocks.loading import BlockedWeights, BlocksLoader
from fusion.blocks.probe import measure_read_bytes_per_s
from fusion.blocks.reader import Memory
from fusion.blocks.records import PAGE_BYTES
from fusion.blocks.times import measure_rates
from fusion.blocks.trials import Phase, Trials
from fusion.codegen import generate
from fusion.export import export
from fusion.ir import Graph
from fusion.loaders import map_tensors
from fusion.specialise import for_cpu
from fusion.weights import WeightsIndex, read_index, write_weights
from workers.memory import give_back, set_up_libraries, set_up_malloc

GRAPH, WHOLE, IN_BLOCKS, INPUTS = "graph.json", "whole.bin", "blocks.bin", "inputs.pt"
PEAK_RUNS = 4

Call = Callable[[], list[Tensor]]


class Prepared(NamedTuple):
    """A model on disk."""

    folder: Path
    graph: Graph
    index: WeightsIndex
    inputs: list[Tensor]

    @classmethod
    def read(cls, folder: Path) -> Prepared:
        """What `prepare` has written."""
        graph = Graph.decode((folder / GRAPH).read_bytes())
        inputs = torch.load(folder / INPUTS, weights_only=True)
        return cls(folder, graph, read_index(folder / WHOLE), inputs)

    def whole(self, graph: Graph) -> Call:
        """All of it mapped, every page present."""
        mapped = map_tensors(self.folder / WHOLE, self.index, is_verified=True)
        by_name = dict(zip([e.name for e in self.index.entries], mapped.tensors, strict=True))
        weights = [by_name[spec.name] for spec in graph.weights]
        run = generate(graph).run

        def call() -> list[Tensor]:
            with torch.inference_mode():
                return run(weights, self.inputs)

        return call

    def fastest(self) -> Call:
        """All of it, by the faster of its tiers."""
        variants = {
            name: self.whole(graph)
            for name, graph in (("generated", self.graph), ("onednn", for_cpu(self.graph)))
        }
        times = round_robin(variants, Length(0.0, 0.0), {}, "generated")
        return variants[min(times, key=lambda name: times[name].median_s)]

    def planned(self, budget_bytes: int) -> BlockedGraph:
        """As a worker plans it."""
        path = self.folder / IN_BLOCKS
        rate = measure_read_bytes_per_s(path, self.index.file_bytes)
        return in_blocks(self.graph, self.index, budget_bytes, measure_rates(), rate)

    def settled(self, budget_bytes: int) -> BlockedGraph:
        """As a worker runs it after some runs that had to read; where none has to, as planned."""
        path = self.folder / IN_BLOCKS
        trials = Trials(self.planned(budget_bytes))
        while trials.phase is not Phase.SETTLED and trials.body.plan.read_bytes:
            weights = BlocksLoader([trials.body]).load(path, self.index, is_verified=True)
            is_due = False
            while not is_due:
                _drop(path, True)
                weights.run(0, self.inputs)
                latest = weights.latest(0)
                assert latest is not None, "it has run"
                is_due = trials.note(*latest)
            assert weights.close()
            trials.decide()
        return trials.body


def main() -> None:
    """Do what the arguments say."""
    kind, *words = sys.argv[1:]
    torch.set_num_threads(1)
    if kind == "prepare":
        _prepare(words[0], Path(words[1]))
        return
    prepared = Prepared.read(Path(words[0]))
    if kind == "peak":
        found = _peak(prepared, int(words[1]))
    else:
        found = _time(prepared, int(words[1]), words[2] == "cold", Length(*map(float, words[3:])))
    print(json.dumps(found))


def _prepare(name: str, folder: Path) -> None:
    model = next(each for each in (*MODELS, *SMALL_MODELS) if each.name == name)
    module, example = model.make()
    made = export(module, example, 2)
    (folder / GRAPH).write_bytes(made.graph.encode())
    torch.save([example[spec.name][:1].clone() for spec in made.graph.inputs], folder / INPUTS)
    for name in (WHOLE, IN_BLOCKS):
        write_weights(folder / name, made.weights)
    os.sync()  # what is not on the disk yet cannot be dropped


def _time(prepared: Prepared, budget_bytes: int, is_cold: bool, length: Length) -> dict[str, Any]:
    path = prepared.folder / IN_BLOCKS
    whole = prepared.fastest()
    body = prepared.settled(budget_bytes)
    loader = BlocksLoader([body])
    path.read_bytes()
    _drop(path, is_cold)
    weights = loader.load(path, prepared.index, is_verified=True)

    def once() -> list[Tensor]:
        _drop(path, is_cold)
        return weights.run(0, prepared.inputs)

    def anew() -> None:
        _drop(path, is_cold)
        other = loader.load(path, prepared.index, is_verified=True)
        other.run(0, prepared.inputs)
        assert other.close()

    def twice() -> None:
        once()
        once()

    pairs = zip(once(), whole(), strict=True)
    difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    variants = {"whole": whole, "blocks": once, "twice": twice, "anew": anew}
    times = round_robin(variants, length, {"blocks": 1.0}, "whole")
    _drop(path, is_cold)
    plan = body.plan
    return {
        "runs_s": {name: found.runs_s for name, found in times.items()},
        "difference": difference,
        "blocks": len(plan.blocks),
        "ring_bytes": plan.ring_bytes,
        "resident_bytes": plan.resident_bytes,
        "read_bytes": plan.read_bytes,
        "is_measured": body.is_measured,
        "planned_s": plan.run_s,
        "least_s": plan.least_s,
        "reading_s": plan.read_bytes / measure_read_bytes_per_s(path, prepared.index.file_bytes),
    }


def _drop(path: Path, is_cold: bool) -> None:
    if not is_cold:
        return
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _peak(prepared: Prepared, budget_bytes: int) -> dict[str, Any]:
    """Most bytes of weights after any step; and what the process grew by, with its activations.

    It has computed the same with all of the weights before, so what libraries keep is there.
    """
    body = prepared.settled(budget_bytes)
    prepared.fastest()()
    gc.collect()
    give_back()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before_bytes = _high_water_bytes()
    most_bytes = max(_most_bytes(prepared, body, is_cold) for is_cold in (True, False))
    return {"weight_bytes": most_bytes, "growth_bytes": _high_water_bytes() - before_bytes}


def _most_bytes(prepared: Prepared, body: BlockedGraph, is_cold: bool) -> int:
    path = prepared.folder / IN_BLOCKS
    path.read_bytes()
    _drop(path, is_cold)
    seen: list[int] = []
    watched = _watched(body, lambda: seen.append(_present_bytes(weights)))
    weights = BlocksLoader([watched]).load(path, prepared.index, is_verified=True)
    for _ in range(PEAK_RUNS):
        _drop(path, is_cold)
        weights.run(0, prepared.inputs)
    assert weights.close()
    return max(seen)


def _watched(body: BlockedGraph, look: Callable[[], None]) -> BlockedGraph:
    """The same; looks after every step."""
    made, plain = replace(body), body.code

    def run(weights: Sequence[Any], inputs: Sequence[Tensor]) -> Iterator[list[Tensor] | None]:
        for found in plain(weights, inputs):
            look()
            yield found

    vars(made)["code"] = run  # where a cached property keeps its value
    return made


def _present_bytes(weights: BlockedWeights) -> int:
    """Pages that this process has of the ring, of what stays, and of the file."""
    return sum(map(_pages_bytes, weights.opened(0).memories))


def _pages_bytes(memory: Memory) -> int:
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        file.seek(memory.address // PAGE_BYTES * 8)
        entries = np.frombuffer(file.read(-(-memory.bytes // PAGE_BYTES) * 8), np.uint64)
    return int((entries >> np.uint64(63)).sum()) * PAGE_BYTES  # bit 63 says present


def _high_water_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


if __name__ == "__main__":
    set_up_libraries(os.environ)
    set_up_malloc()
    main()
