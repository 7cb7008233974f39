"""One process whose memory is measured from outside; it waits at each stage until told to go on.

`python _memory_process.py prepare SET FOLDER` exports the models of a set to a folder;
`... fused SET FOLDER` runs them as a worker does, `... eager SET FOLDER NAME...` in eager mode.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

from workers.memory import give_back, set_up_libraries, set_up_malloc

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.codegen import Program
    from fusion.ir import Graph
    from fusion.slots import Lease, SlotRequest
    from workers.dags import Call

ROWS = 4  # of each function in each run
# of a group: members try their tiers, then the group its strategies, all of which counts
FUSED_RUNS, EAGER_RUNS = 40, 10
BUDGET_BYTES = 4 * 2**30
WARM_UP_S = 60.0
GRAPH, WEIGHTS = "graph.json", "weights.safetensors"


def main() -> None:
    """Do what the arguments say."""
    kind, name, folder, *chosen = sys.argv[1:]
    if kind == "prepare":
        _prepare(name, Path(folder))
    elif kind == "fused":
        _run_fused(name, Path(folder))
    else:
        _run_eager(name, chosen)


def _stage(name: str, weight_bytes: int = 0) -> None:
    """Say where this process is, and wait for a line."""
    print(json.dumps({"stage": name, "weight_bytes": weight_bytes}), flush=True)
    if not sys.stdin.readline():
        sys.exit("nobody measures any more")


def _forget_peak() -> None:
    """Give back what loading has left, and let the kernel's high-water mark begin anew."""
    give_back()
    Path("/proc/self/clear_refs").write_text("5")


def _prepare(name: str, folder: Path) -> None:
    from _memory_sets import SETS

    from fusion.export import export
    from fusion.weights import write_weights

    for model, make in SETS[name].items():
        example = make()
        made = export(example.module, example.inputs, 2 * ROWS)
        (folder / model).mkdir()
        (folder / model / GRAPH).write_bytes(made.graph.encode())
        write_weights(folder / model / WEIGHTS, made.weights)


def _run_eager(name: str, chosen: Sequence[str]) -> None:
    import torch
    from _memory_sets import SETS

    with torch.inference_mode():
        image = torch.rand(1, 3, 32, 32)
        torch.nn.functional.conv2d(image, torch.rand(8, 3, 3, 3)).relu().flatten(1).softmax(1)
        torch.nn.functional.linear(torch.rand(8, 64), torch.rand(64, 64))
        _forget_peak()
        _stage("context")
        loaded = []
        for model in chosen:
            module, inputs = SETS[name][model]()
            loaded.append((module, [*_rows(inputs).values()]))
        del module, inputs
        gc.collect()
        tensors = [x for module, _ in loaded for x in module.state_dict().values()]
        weight_bytes = sum(x.nbytes for x in tensors)
        _forget_peak()
        _stage("loaded", weight_bytes)
        for _ in range(EAGER_RUNS):
            for module, inputs in loaded:
                module(*inputs)
        _stage("ran", weight_bytes)


def _run_fused(name: str, folder: Path) -> None:
    set_up_libraries(os.environ, BUDGET_BYTES)
    set_up_malloc()
    import torch

    from fusion.cache import DagCache
    from fusion.device import parse_device
    from fusion.slots import open_slots
    from workers.dags import Dags
    from workers.warmup import warm_up
    from workers.wiring import make_lanes

    device, threads = parse_device("cpu"), torch.get_num_threads()
    lanes = make_lanes(device, threads)
    warm_up(torch.device("cpu"), threads, lanes, WARM_UP_S)
    _forget_peak()
    _stage("context")
    slots = open_slots(device, BUDGET_BYTES)
    dags = Dags(DagCache(BUDGET_BYTES), torch.device("cpu"), lanes, generate_merged=_program)
    with slots.acquire(_requests(folder)) as lease:
        calls = _calls(name, folder, lease)
        weight_bytes = slots.stats().resident_bytes
        _forget_peak()
        _stage("loaded", weight_bytes)
        for _ in range(FUSED_RUNS):
            found = dags.run(calls)
            assert all(isinstance(outputs, dict) for (outputs,) in found.results), found.results
        _stage("ran", weight_bytes)
        del calls, found  # views of weights must not outlive the lease


def _program(graph: Graph, row_groups: tuple[int, ...] = ()) -> Program:
    from fusion.specialise import specialised

    return specialised(graph, "cpu", row_groups)


def _requests(folder: Path) -> list[SlotRequest]:
    from fusion.slots import SlotRequest
    from fusion.weights import read_index

    paths = sorted(folder.glob(f"*/{WEIGHTS}"))
    return [SlotRequest(path.parent.name, path, read_index(path)) for path in paths]


def _calls(name: str, folder: Path, lease: Lease) -> list[Call]:
    """One job of ROWS rows for every function, as its files and the lease have it."""
    from _memory_sets import SETS

    from fusion.ir import Graph
    from workers.dags import Call

    programs: dict[str, Program] = {}
    calls = []
    for model, make in SETS[name].items():
        graph = Graph.decode((folder / model / GRAPH).read_bytes())
        program = programs.setdefault(graph.architecture, _program(graph))
        entries = lease.slots[model].request.index.entries
        weights = dict(zip(lease.names(model), lease.tensors(model), strict=True))
        hashes = {entry.name: entry.sha256 for entry in entries}
        names = [spec.name for spec in graph.weights]
        inputs = {key: x.numpy() for key, x in _rows(make().inputs).items()}
        call = Call(
            model, graph, program, tuple(hashes[n] for n in names), [weights[n] for n in names],
            [inputs], ROWS,
        )  # fmt: skip
        calls.append(call)
    return calls


def _rows(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ROWS rows of each input."""
    from fusion.probes import with_rows

    return {name: with_rows(x, ROWS) for name, x in inputs.items()}


if __name__ == "__main__":
    main()
