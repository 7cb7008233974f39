"""Functions larger than the arena run in blocks on a device; copies run late here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fusion.blocks import body as bodies
from fusion.blocks import cut as cutting
from fusion.blocks.body import in_blocks, least_bytes
from fusion.blocks.times import Rates
from fusion.codegen import generate
from fusion.errors import WeightsError
from fusion.export import Exported, export
from fusion.slots import SlotRequest
from fusion.swapping.blocks import DeviceBlocks, DeviceBlocksLoader
from fusion.weights import write_weights
from tests.unit.fusion_swapping.shared import MIB, check, opened, plain, stored
from tests.zoo import ZOO


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models are split as large ones would be."""
    monkeypatch.setattr(bodies, "LEAST_PIECE_BYTES", 2048)
    monkeypatch.setattr(cutting, "GATHER_FROM_BYTES", 256)


class Deep(nn.Module):
    """Layers of 256 KiB."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(256, 256, bias=False) for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


@cache
def exported(name: str) -> tuple[Exported, dict[str, Tensor]]:
    if name != "deep":
        module, example = ZOO[name]()
        return export(module, example, 8), example
    torch.manual_seed(0)
    inputs = {"x": torch.randn(2, 256)}
    return export(Deep(), inputs, 8), inputs


@pytest.mark.parametrize("name", ["bert", "deep"])
@pytest.mark.parametrize("host_mib", [0, 8])
def test_models_compute_the_same_in_blocks_beside_others(
    name: str, host_mib: int, tmp_path: Path
) -> None:
    """Pinned and from the file; another function comes and goes where blocks lay."""
    made, example = exported(name)
    path = tmp_path / "weights.safetensors"
    index = write_weights(path, made.weights)
    least = least_bytes(made.graph, index)
    body = in_blocks(made.graph, index, least, Rates(4e10, 1e10), 1e9, is_cpu=False)
    assert len(body.plan.blocks) > 2
    table, loader, copies = opened(3 * MIB, host_mib * MIB)
    blocks = DeviceBlocksLoader([body], loader)
    assert blocks.slot_bytes(index) <= least
    request = SlotRequest("large", path, index, loader=blocks)
    other = stored(tmp_path, "other", plain(1, 2), True)
    inputs = {rows: [example[s.name][:rows] for s in made.graph.inputs] for rows in (1, 2)}
    program, held = generate(made.graph), [*made.weights.values()]
    for rows in (2, 1, 2):
        with table.acquire([request]) as lease:
            weights = lease.slots["large"].weights
            assert isinstance(weights, DeviceBlocks)
            with torch.inference_mode():
                expected = program.run(held, inputs[rows])
            for _ in range(2):
                found = weights.run(0, inputs[rows])
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert table.stats().resident_bytes >= blocks.slot_bytes(index)
        with table.acquire([other]) as lease:
            check(lease, "other", plain(1, 2))
        table.check_integrity()
        table.evict("large")
    assert (loader.host_share(path) > 0) == bool(host_mib)
    assert copies.device_taken == [loader.arena_bytes]
    loader.host.check_integrity()


def test_a_run_that_fails_leaves_the_next_one_right(tmp_path: Path) -> None:
    """Indices out of the table end one run; a file that is not there, the load."""
    made, example = exported("bert")
    path = tmp_path / "weights.safetensors"
    index = write_weights(path, made.weights)
    least = least_bytes(made.graph, index)
    body = in_blocks(made.graph, index, least, Rates(4e10, 1e10), 1e9, is_cpu=False)
    table, loader, _ = opened(3 * MIB, 0)
    request = SlotRequest("large", path, index, loader=DeviceBlocksLoader([body], loader))
    inputs = [example[spec.name] for spec in made.graph.inputs]
    wrong = [
        x + 10_000 if spec.name == "ids" else x
        for spec, x in zip(made.graph.inputs, inputs, strict=True)
    ]
    with table.acquire([request]) as lease:
        weights = lease.slots["large"].weights
        assert isinstance(weights, DeviceBlocks)
        with pytest.raises(IndexError):
            weights.run(0, wrong)
        with torch.inference_mode():
            expected = generate(made.graph).run([*made.weights.values()], inputs)
        torch.testing.assert_close(weights.run(0, inputs), expected, rtol=1e-4, atol=1e-5)
    gone = replace(request, key="gone", path=tmp_path / "gone", is_verified=True)
    with pytest.raises(WeightsError, match="cannot be read"):
        table.acquire([gone])
    table.check_integrity()
    assert table.stats().resident == ("large",)
