"""The plan of a function that no worker holds as a whole, as it is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.function import WEIGHTS, Manifest

if TYPE_CHECKING:
    from fusion.blocks.body import BlockedGraph


def planned(folder: Path, manifest: Manifest, budget_bytes: int) -> dict[str, Any]:
    """As in a worker's report; by the speeds of this machine, where a worker goes by its own.

    Raises BudgetExceeded, which the gateway has ruled out for one row.
    """
    body = _body(folder, manifest, budget_bytes)
    return {
        "block_bytes": [block.bytes for block in body.plan.blocks],
        "ring_bytes": body.plan.ring_bytes,
        "resident_bytes": body.plan.resident_bytes,
        "is_measured": body.is_measured,
    }


def _body(folder: Path, manifest: Manifest, budget_bytes: int) -> BlockedGraph:
    from fusion.blocks.body import in_blocks
    from fusion.blocks.probe import measure_read_bytes_per_s
    from fusion.blocks.times import measure_rates
    from fusion.errors import BudgetExceeded
    from fusion.ir import Graph
    from fusion.weights import read_index

    weights = folder / WEIGHTS
    index, rates = read_index(weights), measure_rates()
    graph = Graph.decode((folder / manifest.graph_files[0]).read_bytes())
    read_bytes_per_s = measure_read_bytes_per_s(weights, index.file_bytes)
    for rows in (manifest.max_batch, 1):
        room_bytes = budget_bytes - manifest.activation_bytes_at(rows)
        try:
            return in_blocks(graph, index, room_bytes, rates, read_bytes_per_s)
        except BudgetExceeded:
            if rows == 1:
                raise
    raise AssertionError("one row is tried last")
