"""A function larger than the worker's budget runs in blocks, beside others that fit."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from contract.store.workers import WorkerReport
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
from tests.integration.workers.builders import Platform, WorkerProcess, floats, output_of

WIDTH = 1024
LAYERS = 16
MIB = 2**20
BUDGET = 16 * MIB


def deep_graph() -> Graph:
    """Layers of 4 MiB each: 64 MiB, four times the budget."""
    spec = TensorSpec("x", "float32", (None, WIDTH))
    weights = tuple(WeightSpec(f"w{k}", "float32", (WIDTH, WIDTH)) for k in range(LAYERS))
    nodes = [Node("linear", (Ref("input", 0), Ref("weight", 0)))]
    for k in range(1, LAYERS):
        nodes.append(Node("relu", (Ref("node", 2 * k - 2),)))
        nodes.append(Node("linear", (Ref("node", 2 * k - 1), Ref("weight", k))))
    out = Output(spec._replace(name="y"), Ref("node", len(nodes) - 1))
    return Graph((spec,), weights, tuple(nodes), (out,))


def deep_weights(seed: int) -> dict[str, torch.Tensor]:
    """Of a scale that neither vanishes nor explodes."""
    torch.manual_seed(seed)
    scale = (2 / WIDTH) ** 0.5
    return {f"w{k}": torch.randn(WIDTH, WIDTH) * scale for k in range(LAYERS)}


def expected(weights: dict[str, torch.Tensor], x: np.ndarray) -> np.ndarray:
    """What PyTorch makes of it."""
    value = torch.from_numpy(x)
    for k in range(LAYERS):
        value = torch.nn.functional.linear(torch.relu(value) if k else value, weights[f"w{k}"])
    return value.numpy()


def rows_of(seed: int, rows: int = 1) -> dict[str, np.ndarray]:
    """An input."""
    return {"x": np.random.default_rng(seed).standard_normal((rows, WIDTH), np.float32)}


def reported(worker: WorkerProcess, platform: Platform, key: str) -> WorkerReport:
    """The worker's report, once it says how it runs this function."""
    give_up_at = time.monotonic() + 15
    while True:
        report = worker.now(platform)
        if report is not None and key in report.blocks:
            return report
        assert time.monotonic() < give_up_at, "no report of it"
        time.sleep(0.01)  # reports are overwritten: no event says that this one has come


def test_a_function_four_times_the_budget_answers_beside_one_that_fits(
    platform: Platform, start_worker: Callable[..., WorkerProcess]
) -> None:
    """Several jobs of both in one group; the worker reports the plan, and holds to its budget."""
    weights = deep_weights(0)
    deep = platform.deploy("deep", deep_graph(), weights)
    small = platform.deploy("small")
    worker = start_worker(FUSEBOX_MEMORY_BUDGET=str(BUDGET))
    # before any job
    assert not reported(worker, platform, str(deep.ref)).blocks[str(deep.ref)].is_measured
    for turn in range(3):
        inputs = [rows_of(10 * turn + k, rows=k + 1) for k in range(2)]
        jobs = [platform.submit(deep, each) for each in inputs]
        other = platform.submit(small, floats(1, 2, 3, 4))
        *outcomes, last = platform.run(worker.id, *jobs, other)
        for each, outcome in zip(inputs, outcomes, strict=True):
            want = expected(weights, each["x"])
            np.testing.assert_allclose(output_of(outcome), want, rtol=1e-4, atol=1e-4)
        assert output_of(last) == [[1.0, 2.0, 3.0, 4.0]]
    report = reported(worker, platform, str(deep.ref))
    plan = report.blocks[str(deep.ref)]
    assert len(plan.block_bytes) > 1
    assert plan.ring_bytes + plan.resident_bytes <= BUDGET
    assert sum(plan.block_bytes) + plan.resident_bytes >= 64 * MIB
    assert report.resident_bytes <= BUDGET


def test_what_fits_in_no_blocks_says_what_it_would_need(
    platform: Platform, start_worker: Callable[..., WorkerProcess]
) -> None:
    """One step that cannot be split needs more than there is."""
    spec = TensorSpec("x", "float32", (None, 4))
    weight = WeightSpec("w", "float32", (3 * 2**20,))
    total = Node("sum", (Ref("weight", 0),))
    added = Node("add.Tensor", (Ref("input", 0), Ref("node", 0)))
    graph = Graph((spec,), (weight,), (total, added), (Output(spec, Ref("node", 1)),))
    function = platform.deploy("unsplit", graph, {"w": torch.zeros(3 * 2**20)})
    worker = start_worker(FUSEBOX_MEMORY_BUDGET=str(8 * MIB))
    [outcome] = platform.run(worker.id, platform.submit(function, floats(1, 2, 3, 4)))
    assert outcome.error is not None
    assert outcome.error["code"] == "out_of_memory"
    assert outcome.error["budget_bytes"] == 8 * MIB
    assert outcome.error["needed_bytes"] >= 12 * MIB
