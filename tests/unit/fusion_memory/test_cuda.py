"""Slots on a GPU; skipped where there is none."""

from pathlib import Path

import pytest
import torch

from fusion.device import Device
from fusion.errors import WeightsError
from fusion.loaders_cuda import CudaLoader, pinned_bytes
from fusion.slots import SlotRequest, SlotTable, open_slots
from fusion.weights import WeightsIndex, write_weights

MIB = 2**20

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_a_slot_is_counted_in_whole_blocks_of_the_allocator() -> None:
    """512 bytes below 1 MiB, 2 MiB above."""
    loader = CudaLoader(0, 0)
    assert [
        loader.slot_bytes(WeightsIndex((), 4096, 4096 + size))
        for size in (1, 513, MIB, MIB + 1, 45 * MIB)
    ] == [512, 1024, 1 * MIB, 2 * MIB, 46 * MIB]


@pytest.mark.parametrize(("size", "taken"), [(0, 0), (1, 1), (4096, 4096), (4097, 8192)])
def test_a_pinned_copy_is_counted_as_a_power_of_two(size: int, taken: int) -> None:
    """What torch's allocator of pinned memory takes."""
    assert taken == pinned_bytes(size)


@pytest.fixture
def functions(tmp_path: Path) -> list[SlotRequest]:
    """Three functions of 40 MiB, of ones, twos and threes."""
    requests = []
    for number in (1, 2, 3):
        path = tmp_path / f"{number}.safetensors"
        model = {"bias": torch.full((3,), float(number)), "kernel": torch.full((10, MIB), number)}
        index = write_weights(path, {name: t.float() for name, t in model.items()})
        requests.append(SlotRequest(f"f@{number}", path, index))
    return requests


class TestOnDevice:
    pytestmark = needs_gpu

    @pytest.fixture
    def table(self) -> SlotTable:
        return open_slots(Device("cuda"), 100 * MIB, host_budget_bytes=256 * MIB)

    def test_weights_arrive_and_are_right(
        self, table: SlotTable, functions: list[SlotRequest]
    ) -> None:
        """On a stream other than the copy's, without the host waiting, however often swapped."""
        stream = torch.cuda.Stream()
        for _ in range(3):
            for number, request in enumerate(functions, 1):
                with torch.cuda.stream(stream), table.acquire([request]) as lease:
                    total = sum(tensor.sum() for tensor in lease.tensors(request.key))
                assert number * (3 + 10 * MIB) == pytest.approx(total.item(), rel=1e-6)
        assert table.stats().evictions >= 6
        table.check_integrity()

    def test_resident_bytes_are_the_devices_growth(
        self, table: SlotTable, functions: list[SlotRequest]
    ) -> None:
        """One allocation a slot, given back on eviction."""
        before_bytes = torch.cuda.memory_allocated()
        table.acquire(functions[:2]).release()
        grown_bytes = torch.cuda.memory_allocated() - before_bytes
        assert table.stats().resident_bytes == pytest.approx(grown_bytes, rel=0.1)
        for request in functions[:2]:
            assert table.evict(request.key)
        assert before_bytes == torch.cuda.memory_allocated()

    def test_a_digest_that_differs_leaves_nothing(
        self, table: SlotTable, functions: list[SlotRequest]
    ) -> None:
        """Neither on the device nor in the account."""
        content = bytearray(functions[0].path.read_bytes())
        content[-1] ^= 1
        functions[0].path.write_bytes(content)
        before_bytes = torch.cuda.memory_allocated()
        with pytest.raises(WeightsError, match="sha256"):
            table.acquire([functions[0]])
        assert (0, before_bytes) == (table.stats().used_bytes, torch.cuda.memory_allocated())
