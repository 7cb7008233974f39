"""A worker's run of one function begins while its weights arrive, where the device can."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from fusion.codegen import generate
from fusion.device import Device
from fusion.export import export
from fusion.slots import SlotRequest, open_slots
from fusion.weights import write_weights
from tests.unit.fusion_swapping.shared import MIB, opened
from workers.arriving import ArrivingRuns
from workers.dags import Dags


def test_a_function_is_called_part_by_part_until_its_weights_are_there(tmp_path: Path) -> None:
    """With the values it gives from all of them; on a CPU its weights are always there."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    x = torch.randn(2, 64)
    made = export(module, {"input": x}, 8)
    path = tmp_path / "weights.safetensors"
    slot = SlotRequest("f@1", path, write_weights(path, made.weights), is_verified=True)
    program = generate(made.graph)
    keys = tuple(entry.sha256 for entry in slot.index.entries)
    body = SimpleNamespace(graph=made.graph, program=program, weight_keys=keys)
    loaded: Any = SimpleNamespace(slot=slot, at=lambda rows: body)
    name = made.graph.inputs[0].name
    batch: Any = (SimpleNamespace(rows=2, inputs={name: x.numpy()}),)
    dags = Dags(None, torch.device("cpu"), None)  # type: ignore[arg-type]  # nothing is cached
    runs = ArrivingRuns()
    table, _, _ = opened(2 * MIB, 2 * MIB)
    with table.acquire([slot]) as lease:
        call = runs.call_of(batch, loaded, lease)
        assert call is not None
        [[found]] = dags.run_alone(call).results
        assert isinstance(found, dict)
        with torch.inference_mode():
            [expected] = program.run([*made.weights.values()], [x])
        np.testing.assert_array_equal(next(iter(found.values())), expected.numpy())
        assert runs.call_of(batch, loaded, lease) is None
    with open_slots(Device("cpu"), 2 * MIB).acquire([slot]) as lease:
        assert runs.call_of(batch, loaded, lease) is None
