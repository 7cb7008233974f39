"""Whether some worker can run a function at all, be it in blocks; asked when it is deployed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from contract.errors import OutOfMemory
from contract.function import WEIGHTS, Manifest
from contract.store.workers import WorkerReport
from gateway.artifact_check import ask

CPU = "cpu"
# of a GPU's budget, for weights: they lie in one arena, and activations beside it; here they are
# counted in it too
ARENA_SHARE = 0.7


def whole_bytes(manifest: Manifest) -> int:
    """What it takes beside nothing else, with one row."""
    return manifest.weight_bytes + manifest.activation_bytes_at(1)


def budget_for_blocks(manifest: Manifest, workers: Iterable[WorkerReport]) -> int | None:
    """The largest budget of those that hold it in blocks at most; None where one holds all of it.

    None too where no worker is known yet.
    """
    reports = list(workers)
    if any(report.budget_bytes >= whole_bytes(manifest) for report in reports):
        return None
    budgets = [_for_weights(report) for report in reports]
    return None if manifest.is_eager else max(budgets, default=None)


def _for_weights(report: WorkerReport) -> int:
    share = 1.0 if report.device == CPU else ARENA_SHARE
    return int(report.budget_bytes * share)


def check_budgets(folder: Path, manifest: Manifest, workers: Iterable[WorkerReport]) -> None:
    """Raise OutOfMemory with the bytes it would need, unless a worker has them.

    Workers that come later may have more; where there is none yet, it is they who refuse.
    """
    reports = list(workers)
    most_bytes = max((report.budget_bytes for report in reports), default=None)
    needed_bytes = whole_bytes(manifest)
    if most_bytes is None or needed_bytes <= most_bytes:
        return
    in_blocks_bytes = budget_for_blocks(manifest, reports)
    if in_blocks_bytes is not None:
        graphs = [folder / name for name in manifest.graph_files]
        least_bytes = ask("fusion.blocks.least", folder / WEIGHTS, graphs)["least_bytes"]
        needed_bytes = min(needed_bytes, least_bytes + manifest.activation_bytes_at(1))
        if needed_bytes <= in_blocks_bytes:
            return
        most_bytes = in_blocks_bytes
    raise OutOfMemory(
        f"{needed_bytes:,} bytes are needed, the largest budget has {most_bytes:,} bytes",
        needed_bytes=needed_bytes,
        budget_bytes=most_bytes,
    )
