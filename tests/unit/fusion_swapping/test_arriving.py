"""Functions that run while their weights arrive."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fusion.blocks.steps import sink_views
from fusion.codegen import generate
from fusion.export import Exported, export
from fusion.slots import SlotRequest
from fusion.swapping import loader as loading
from fusion.swapping.arriving import Arriving, waits_of
from fusion.swapping.weights import ArrivingWeights
from fusion.weights import WeightEntry, WeightsIndex, write_weights
from tests.unit.fusion_swapping.shared import MIB, opened
from tests.zoo import ZOO


class Deep(nn.Module):
    """Layers of 256 KiB."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


@pytest.fixture(scope="module")
def deep() -> tuple[Exported, dict[str, Tensor]]:
    torch.manual_seed(0)
    inputs = {"x": torch.randn(2, 256)}
    return export(Deep(), inputs, 8), inputs


@pytest.fixture(autouse=True)
def _many_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models have several marks, as large ones would."""
    monkeypatch.setattr(loading, "MARK_BYTES", 64 * 1024)


def expected(made: Exported, inputs: list[Tensor]) -> list[Tensor]:
    with torch.inference_mode():
        return generate(made.graph).run([*made.weights.values()], inputs)


def test_the_first_layers_run_before_the_last_have_arrived(
    deep: tuple[Exported, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waits come one by one, each for as much as is read next; the values are those of code."""
    made, inputs = deep
    path = tmp_path / "deep.safetensors"
    request = SlotRequest("deep", path, write_weights(path, made.weights), is_verified=True)
    table, _, copies = opened(4 * MIB, 8 * MIB)
    done_at_waits: list[int] = []
    wait_for = ArrivingWeights.wait_for

    def noted(self: ArrivingWeights, mark: object) -> None:
        done_at_waits.append(copies.done)
        wait_for(self, mark)  # type: ignore[arg-type]  # as it was given

    monkeypatch.setattr(ArrivingWeights, "wait_for", noted)
    graph = sink_views(made.graph)
    for _ in range(2):  # from the file, then from pinned memory
        with table.acquire([request]) as lease:
            weights = lease.slots["deep"].weights
            assert isinstance(weights, ArrivingWeights)
            began = copies.done
            found = Arriving().run(graph, request.index, weights, [inputs["x"]])
            torch.testing.assert_close(found, expected(made, [inputs["x"]]), rtol=0, atol=0)
        assert len(done_at_waits) >= 4
        assert done_at_waits[0] == began
        assert done_at_waits == sorted(set(done_at_waits))
        assert table.evict("deep")
        done_at_waits.clear()


@pytest.mark.parametrize("name", ["bert", "tiny_cnn"])
def test_models_give_what_they_give_from_all_of_their_weights(name: str, tmp_path: Path) -> None:
    """Whatever order they use their weights in."""
    module, example = ZOO[name]()
    made = export(module, example, 8)
    path = tmp_path / "weights.safetensors"
    request = SlotRequest(name, path, write_weights(path, made.weights), is_verified=True)
    table, _, _ = opened(16 * MIB, 0)
    inputs = [example[spec.name][:2] for spec in made.graph.inputs]
    with table.acquire([request]) as lease:
        weights = lease.slots[name].weights
        assert isinstance(weights, ArrivingWeights)
        found = Arriving().run(sink_views(made.graph), request.index, weights, inputs)
        torch.testing.assert_close(found, expected(made, inputs))


def test_a_wait_is_as_late_as_it_can_be(deep: tuple[Exported, dict[str, Tensor]]) -> None:
    """No node reads what no wait before it has covered, and none waits for more than a mark."""
    made, _ = deep
    graph = sink_views(made.graph)
    entries, at = [], 0
    for spec in graph.weights:
        entries.append(WeightEntry(spec.name, spec.dtype, spec.shape, at, spec.bytes, ""))
        at += spec.bytes
    index = WeightsIndex(tuple(entries), 0, at)
    ends = [at // 4, at // 2, at]
    waits = waits_of(graph, index, ends)
    assert waits[0].node == 0
    assert [wait.end for wait in waits] == ends
    for place, node in enumerate(graph.nodes):
        reads = [entries[ref.index] for ref in node.refs() if ref.kind == "weight"]
        need = max((entry.offset + entry.nbytes for entry in reads), default=0)
        waited = max(wait.end for wait in waits if wait.node <= place)
        assert need <= waited
