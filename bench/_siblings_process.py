"""One process that loads siblings and measures itself.

`python _siblings_process.py prepare FOLDER COUNT` exports siblings; `... shared FOLDER` loads all
through one slot table, `... separate FOLDER` each through a table of its own, `... eager FOLDER`
as PyTorch modules. One line of JSON: bytes by which the process grew, bytes that the tables
account for, and how far outputs are from those of the modules.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import torch
from _memory_sets import SETS

from fusion.codegen import generate
from fusion.device import Device
from fusion.export import export
from fusion.ir import Graph
from fusion.memory import process_resident_bytes
from fusion.slots import Lease, SlotRequest, SlotTable, open_slots
from fusion.weights import read_index, write_weights
from workers.memory import give_back, set_up_malloc

SIBLINGS = SETS["8 heads on one ResNet-18"]
BUDGET_BYTES = 4 * 2**30
ROWS = 2


def main() -> None:
    """Do what the arguments say."""
    kind, folder, *rest = sys.argv[1:]
    torch.set_grad_enabled(False)
    if kind == "prepare":
        _prepare(Path(folder), int(*rest))
        return
    set_up_malloc()
    print(json.dumps(_eager(Path(folder)) if kind == "eager" else _slots(Path(folder), kind)))


def _prepare(folder: Path, count: int) -> None:
    for k in range(count):
        example = SIBLINGS[f"head{k}"]()
        made = export(example.module, example.inputs, ROWS)
        its = folder / str(k)
        its.mkdir()
        (its / "graph.json").write_bytes(made.graph.encode())
        write_weights(its / "weights.safetensors", made.weights)
        expected = example.module(example.inputs["x"])
        torch.save(example.module.state_dict(), its / "state.pt")
        write_weights(its / "probe", {"x": example.inputs["x"], "y": expected})


def _slots(folder: Path, kind: str) -> dict[str, float]:
    """Growth until every weight of every sibling is there; outputs are compared afterwards."""
    requests = [
        SlotRequest(its.name, path, read_index(path))
        for its in sorted(folder.iterdir())
        for path in [its / "weights.safetensors"]
    ]
    warm = open_slots(Device("cpu"), BUDGET_BYTES)  # what the first load of a process takes
    warm.acquire(requests[:1]).release()
    warm.evict(requests[0].key)
    before_bytes = _measure()
    together = [requests] if kind == "shared" else [[request] for request in requests]
    tables = [open_slots(Device("cpu"), BUDGET_BYTES) for _ in together]
    leases = [table.acquire(its) for table, its in zip(tables, together, strict=True)]
    grown_bytes = _measure() - before_bytes
    accounted_bytes = sum(table.stats().resident_bytes for table in tables)
    worst = max(
        _error(folder / request.key, request.key, lease)
        for lease, its in zip(leases, together, strict=True)
        for request in its
    )
    _leave(tables, leases)
    return {"grown": grown_bytes, "accounted": accounted_bytes, "error": worst}


def _leave(tables: list[SlotTable], leases: list[Lease]) -> None:
    for lease in leases:
        lease.release()
    for table in tables:
        table.check_integrity()
        for key in table.stats().resident:
            assert table.evict(key)
        left_bytes = table.stats().used_bytes
        assert left_bytes == 0, f"{left_bytes} bytes are left"


def _error(folder: Path, key: str, lease: Lease) -> float:
    """The largest difference from the module's outputs, as a share of the largest of them."""
    graph = Graph.decode((folder / "graph.json").read_bytes())
    by_name = dict(zip(lease.names(key), lease.tensors(key), strict=True))
    inputs, expected = _probe(folder)
    (found,) = generate(graph).run([by_name[spec.name] for spec in graph.weights], [inputs])
    return float((found - expected).abs().max() / expected.abs().max())


def _probe(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    table, path = open_slots(Device("cpu"), BUDGET_BYTES), folder / "probe"
    with table.acquire([SlotRequest("probe", path, read_index(path))]) as lease:
        inputs, expected = (tensor.clone() for tensor in lease.tensors("probe"))
    return inputs, expected


def _eager(folder: Path) -> dict[str, float]:
    """Modules from their saved states, as a process that knows only PyTorch would hold them."""
    SIBLINGS["head0"]()  # what the first model of a process takes
    before_bytes = _measure()
    modules = []
    for its in sorted(folder.iterdir()):
        module = SIBLINGS["head0"]().module
        module.load_state_dict(torch.load(its / "state.pt"))
        modules.append(module)
    own_bytes = sum(tensor.nbytes for module in modules for tensor in module.state_dict().values())
    return {"grown": _measure() - before_bytes, "accounted": own_bytes, "error": 0.0}


def _measure() -> int:
    gc.collect()
    give_back()
    return process_resident_bytes()


if __name__ == "__main__":
    main()
