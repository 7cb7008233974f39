"""How long a model's runs take on this machine: all the scheduler has before the first job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import torch

from deploy.model import Model
from fusion.codegen import generate
from fusion.export import Exported
from fusion.probes import probe_inputs

# rows beyond these are a line through what was measured
MOST_ROWS = 8
RUNS = 3
# of one number of rows: a model that takes longer is measured once
WITHIN_S = 1.0


def time_runs(model: Model, exported: Exported, max_batch: int) -> dict[int, float]:
    """Milliseconds of a run, by rows: the median of a few, after one that warms up."""
    found = {}
    for rows in _rows(exported, max_batch):
        named = probe_inputs(model.example_inputs, rows, seed=0)
        graph = next(g for g in exported.graphs if g.fixed_rows in (None, rows))
        weights = [exported.weights[spec.name] for spec in graph.weights]
        inputs = [named[spec.name] for spec in graph.inputs]
        program = generate(graph)
        with torch.inference_mode():
            found[rows] = _median_ms(lambda p=program, w=weights, x=inputs: p.run(w, x))  # type: ignore[misc]  # mypy infers no default arguments
    return found


def _rows(exported: Exported, max_batch: int) -> Sequence[int]:
    if exported.row_buckets:
        small = [rows for rows in exported.row_buckets if rows <= MOST_ROWS]
        return small or exported.row_buckets[:1]
    return sorted({1, min(MOST_ROWS, max_batch)})


def _median_ms(run: Callable[[], object]) -> float:
    run()
    seconds: list[float] = []
    while len(seconds) < RUNS and sum(seconds) < WITHIN_S:
        began_s = perf_counter()
        run()
        seconds.append(perf_counter() - began_s)
    return median(seconds) * 1000
