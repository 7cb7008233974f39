"""Slots on a CPU hold what they say they hold."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from fusion.device import Device
from fusion.memory import process_resident_bytes
from fusion.slots import SlotRequest, SlotTable, open_slots
from fusion.weights import write_weights

MIB = 2**20


@pytest.fixture
def functions(tmp_path: Path) -> list[SlotRequest]:
    """Three functions of 45 MB, of ones, twos and threes."""
    requests = []
    for number, key in enumerate(("a@1", "b@1", "c@1"), 1):
        path = tmp_path / f"{key}.safetensors"
        # [11, 1024, 1024] float32 and a little more, so that a gap is in the file
        kernel = torch.full((11, 1024, 1024), float(number))
        model = {"bias": torch.ones(3), "kernel": kernel}
        requests.append(SlotRequest(key, path, write_weights(path, model), is_verified=True))
    return requests


def mapped_bytes(tmp_path: Path) -> int:
    """Resident bytes of the maps of files in `tmp_path`, as the kernel counts them exactly."""
    resident, is_ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if "-" in fields[0]:
            is_ours = len(fields) > 5 and fields[5].startswith(str(tmp_path))
        elif fields[0] == "Rss:" and is_ours:
            resident += int(fields[1]) * 1024
    return resident


def grown(functions: list[SlotRequest]) -> tuple[int, int, int]:
    """Bytes reported, by which this process grew, and by which it is still larger after evictions.

    Runs in a process of its own: in one that runs tests, memory of others comes and goes.
    """
    before_bytes = process_resident_bytes()
    table = open_slots(Device("cpu"), 200 * MIB)
    table.acquire(functions).release()
    reported_bytes = table.stats().resident_bytes
    grown_bytes = process_resident_bytes() - before_bytes
    for request in functions:
        table.evict(request.key)
    return reported_bytes, grown_bytes, process_resident_bytes() - before_bytes


def test_resident_bytes_are_the_processs_growth(functions: list[SlotRequest]) -> None:
    """Within a tenth, and gone after the evictions."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        reported_bytes, grown_bytes, left_bytes = pool.submit(grown, functions).result(60)
    assert reported_bytes > 130 * MIB
    assert reported_bytes == pytest.approx(grown_bytes, rel=0.1)
    assert left_bytes < 0.1 * reported_bytes


def test_resident_bytes_are_those_of_the_maps(functions: list[SlotRequest], tmp_path: Path) -> None:
    """To the byte."""
    table = open_slots(Device("cpu"), 200 * MIB)
    table.acquire(functions).release()
    reported_bytes = table.stats().resident_bytes
    assert reported_bytes == mapped_bytes(tmp_path)
    assert reported_bytes > 130 * MIB
    for request in functions:
        assert table.evict(request.key)
    assert (table.stats().used_bytes, mapped_bytes(tmp_path)) == (0, 0)


def test_the_budget_bounds_what_is_mapped(functions: list[SlotRequest], tmp_path: Path) -> None:
    """With room for two of three, two are mapped, and a use brings the third back."""
    table = open_slots(Device("cpu"), 100 * MIB)
    for request, number in zip(functions * 2, (1, 2, 3) * 2, strict=True):
        with table.acquire([request]) as lease:
            names, tensors = lease.names(request.key), lease.tensors(request.key)
            assert names == ("bias", "kernel")
            assert [tensor.view(-1)[0].item() for tensor in tensors] == [1.0, number]
            del tensors
        assert mapped_bytes(tmp_path) == table.stats().resident_bytes <= 100 * MIB
    assert table.stats().loads == 6


def test_a_view_that_outlives_its_slot_is_counted_and_safe(
    functions: list[SlotRequest], tmp_path: Path
) -> None:
    """Its bytes are reported as leaving until it is gone."""
    table: SlotTable = open_slots(Device("cpu"), 200 * MIB)
    with table.acquire(functions[:1]) as lease:
        view = lease.tensors("a@1")[0]
    assert table.evict("a@1")
    assert table.stats().leaving_bytes == mapped_bytes(tmp_path) > 0
    assert view.tolist() == [1.0, 1.0, 1.0]
    del view
    table.evict_idle(0.0)
    assert (table.stats().leaving_bytes, mapped_bytes(tmp_path)) == (0, 0)
