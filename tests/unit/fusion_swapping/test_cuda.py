"""Swapping on a real GPU; skipped where there is none."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from fusion.blocks.body import in_blocks
from fusion.blocks.times import measure_rates
from fusion.codegen import generate
from fusion.device import Device
from fusion.errors import WeightsError
from fusion.export import export
from fusion.slots import SlotRequest, SlotTable, open_slots
from fusion.swapping.blocks import DeviceBlocks, DeviceBlocksLoader
from fusion.swapping.cuda import CudaCopies
from fusion.swapping.loader import ArenaLoader
from fusion.swapping.weights import ArrivingWeights
from fusion.weights import write_weights
from tests.unit.fusion_swapping.shared import MIB, plain, sibling, stored

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
KEYS = ("allocation.all.allocated", "segment.all.allocated", "num_alloc_retries")


def taken() -> dict[str, int]:
    """How often torch has taken memory from the device so far."""
    return {key: torch.cuda.memory_stats()[key] for key in KEYS}


def swapping(arena_mib: int, host_mib: int) -> tuple[SlotTable, ArenaLoader]:
    loader = ArenaLoader(CudaCopies(0), arena_mib * MIB, host_mib * MIB)
    return SlotTable(loader, arena_mib * MIB), loader


@pytest.mark.parametrize("host_mib", [0, 16, 256])
def test_weights_are_equal_to_the_bit_under_churn(tmp_path: Path, host_mib: int) -> None:
    """Groups of functions and siblings, from pinned memory and through chunks that come again."""
    models = {f"f{k}": plain(k, 2 + k) for k in range(6)} | {f"s{k}": sibling(k) for k in range(3)}
    requests = {key: stored(tmp_path, key, model, True) for key, model in models.items()}
    table, loader = swapping(24, host_mib)
    chooser = random.Random(0)
    stream = torch.cuda.Stream()
    for _ in range(60):
        group = chooser.sample(sorted(models), 2)
        with torch.cuda.stream(stream), table.acquire([requests[key] for key in group]) as lease:
            for key in group:
                found = dict(zip(lease.names(key), lease.tensors(key), strict=True))
                for name, expected in models[key].items():
                    assert torch.equal(found[name].cpu(), expected), f"{key}: {name}"
        table.check_integrity()
        loader.host.check_integrity()
    assert table.stats().evictions > 20


def test_nothing_is_taken_from_the_device_on_the_way_of_a_swap(tmp_path: Path) -> None:
    """The arena at the first load, and nothing ever after."""
    table, loader = swapping(12, 64)
    requests = [stored(tmp_path, f"f{k}", plain(k), True) for k in range(6)]
    for request in requests:
        table.acquire([request]).release()
    torch.cuda.synchronize()
    before, reserved = taken(), torch.cuda.memory_reserved()
    for _ in range(5):
        for request in requests:
            with table.acquire([request]) as lease:
                lease.tensors(request.key)
    torch.cuda.synchronize()
    assert before == taken()
    assert reserved == torch.cuda.memory_reserved()
    assert loader.memory().numel() == loader.arena_bytes
    assert table.stats().evictions > 20


def test_streams_are_ordered_by_events_alone(tmp_path: Path) -> None:
    """A slow reader is queued; its place is given to another at once, and it reads its own."""
    table, _ = swapping(8, 64)
    requests = [stored(tmp_path, f"f{k}", plain(k, 6), True) for k in range(2)]
    for request in requests:
        table.acquire([request]).release()
    stream = torch.cuda.Stream()
    sums = []
    for _ in range(10):
        for request in requests:
            with torch.cuda.stream(stream), table.acquire([request]) as lease:
                kernel = lease.tensors(request.key)[0]
                torch.cuda._sleep(20_000_000)  # some ten milliseconds of the stream
                sums.append(kernel.double().sum())
    stream.synchronize()
    expected = [plain(k, 6)["kernel"].double().sum().item() for k in range(2)] * 10
    assert [found.item() for found in sums] == pytest.approx(expected, rel=1e-12)


def test_marks_come_one_after_another(tmp_path: Path) -> None:
    """What waits for the first mark reads the first part; the last says that all is there."""
    table, _ = swapping(256, 512)
    request = stored(tmp_path, "f0", plain(0, 200), True)
    table.acquire([request]).release()
    table.evict("f0")
    with table.acquire([request]) as lease:
        weights = lease.slots["f0"].weights
        assert isinstance(weights, ArrivingWeights)
        end, first = weights.marks[0]
        weights.wait_for(first)
        rows = end // MIB
        found = weights.tensors[0][:rows].cpu()
        assert torch.equal(found, plain(0, 200)["kernel"][:rows])
        weights.marks[-1][1].synchronize()
        assert not weights.is_arriving
        assert first.query()


def test_a_workers_table_takes_its_arena_once(tmp_path: Path) -> None:
    """As it is opened; a digest that differs leaves nothing in the account."""
    table = open_slots(Device("cuda"), 100 * MIB, host_budget_bytes=64 * MIB)
    path = tmp_path / "bad.safetensors"
    bad = SlotRequest("bad", path, write_weights(path, plain(1)))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    good = stored(tmp_path, "good", plain(2), False)
    table.acquire([good]).release()
    before_bytes = torch.cuda.memory_allocated()
    with pytest.raises(WeightsError, match="sha256"):
        table.acquire([bad])
    assert table.stats().resident == ("good",)
    assert before_bytes == torch.cuda.memory_allocated()
    table.check_integrity()


def test_blocks_compute_what_all_weights_compute(tmp_path: Path) -> None:
    """Through a ring in the arena, from pinned memory and as they are read."""
    torch.manual_seed(0)
    layers = [nn.Linear(1024, 1024, bias=False) for _ in range(10)]
    x = torch.randn(8, 1024)
    made = export(nn.Sequential(*layers), {"input": x}, 8)
    path = tmp_path / "weights.safetensors"
    index = write_weights(path, made.weights)
    rates = measure_rates("cuda")
    body = in_blocks(made.graph, index, 14 * MIB, rates, 1e9, is_cpu=False)
    held = [weight.cuda() for weight in made.weights.values()]
    with torch.inference_mode():
        [expected] = generate(made.graph).run(held, [x.cuda()])
    for host_mib in (0, 64):
        table, loader = swapping(16, host_mib)
        request = SlotRequest("large", path, index, loader=DeviceBlocksLoader([body], loader))
        with table.acquire([request]) as lease:
            weights = lease.slots["large"].weights
            assert isinstance(weights, DeviceBlocks)
            for _ in range(5):
                [found] = weights.run(0, [x.cuda()])
                torch.testing.assert_close(found, expected)
