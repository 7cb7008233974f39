"""A worker with an arena: runs begin while weights arrive, and what is larger runs in blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contract.function import Function
from fusion.codegen import generate
from fusion.export import Exported, export
from fusion.swapping.arriving import Arriving
from fusion.swapping.blocks import DeviceRunner
from tests.unit.fusion_swapping.shared import MIB, opened
from tests.unit.workers.computing import Parts, a_job


def deep(layers: int) -> tuple[Exported, dict[str, Tensor]]:
    """Layers of 1 MiB."""
    torch.manual_seed(layers)
    inputs = {"x": torch.randn(2, 512)}
    module = nn.Sequential(*(nn.Linear(512, 512, bias=False) for _ in range(layers)))
    return export(module, {"input": inputs["x"]}, 8), inputs


def test_functions_arrive_while_they_run_and_larger_ones_run_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the values of code that has all weights; what has arrived is run as ever."""
    ways: list[str] = []
    for owner, way in ((Arriving, "arriving"), (DeviceRunner, "blocks")):
        monkeypatch.setattr(owner, "run", noting(owner.run, way, ways))
    table, _, _ = opened(4 * MIB, 16 * MIB, beside_bytes=4 * MIB)
    parts = Parts(tmp_path, slots=table)
    functions: dict[int, tuple[Function, np.ndarray, np.ndarray]] = {}
    for layers in (2, 7):
        made, inputs = deep(layers)
        with torch.inference_mode():
            [expected] = generate(made.graph).run([*made.weights.values()], [*inputs.values()])
        function = parts.deploy(f"deep-{layers}", made.graph, made.weights)
        functions[layers] = function, inputs["x"].numpy(), expected.numpy()
    for layers in (2, 2, 7, 7, 2):
        function, x, expected_array = functions[layers]
        name = function.manifest.inputs[0].name
        results = parts.compute([a_job(function, {name: x})])
        assert not results.ended
        [found] = results.ran[0].outputs.values()
        np.testing.assert_allclose(found, expected_array, rtol=1e-4, atol=1e-5)
        table.check_integrity()
    assert ways == ["arriving", "blocks", "blocks", "arriving"]


def noting(run, way: str, ways: list[str]):  # type: ignore[no-untyped-def]  # whatever it takes
    def noted(*given: object) -> object:
        ways.append(way)
        return run(*given)

    return noted
