"""Where functions are, as a worker reports it."""

from __future__ import annotations

from pathlib import Path

import torch

from contract.function import Function
from contract.settings import Settings
from fusion.device import Device
from fusion.measurements import Measurements
from fusion.page_cache import cached_share
from fusion.slots import open_slots
from tests.integration.workers.builders import linear_graph, write_artifact
from workers import tiers
from workers.library import Library
from workers.tiers import Tiers
from workers.wiring import host_budget_bytes

WIDTH = 64


def test_device_host_and_disk_are_told_apart(tmp_path: Path) -> None:
    """By the slot, and by the page cache as it was found at the last look."""
    library = Library(tmp_path, "cpu", Measurements(tmp_path / "m.json", "test"))
    slots = open_slots(Device("cpu"), 2**20)
    seen = Tiers(slots, library, clock=lambda: 1000.0)
    for name in ("in", "out", "never"):
        digest, manifest = write_artifact(
            tmp_path, linear_graph(WIDTH), {"w": torch.full((WIDTH, WIDTH), float(len(name)))}
        )
        slot = library.get(Function(name, 1, digest, 0.0, manifest)).slot
        if name != "never":
            slots.acquire([slot]).release()
    slots.evict("out@1")
    resident = library.file_bytes(["in@1"])
    # nothing has been looked at, so nothing is known to be in host memory
    assert {key: one.tier for key, one in seen.memory(resident).items()} == {
        "in@1": "device",
        "out@1": "disk",
    }
    seen.look()
    memory = seen.memory(resident)
    path = library.weights_files(["out@1"])["out@1"]
    assert cached_share(path) == 1  # it was written a moment ago
    assert (memory["in@1"].tier, memory["out@1"].tier) == ("device", "host")
    assert memory["out@1"].host_bytes == path.stat().st_size
    assert memory["in@1"].device_bytes == resident["in@1"]
    assert (memory["out@1"].loads, memory["out@1"].evictions, memory["out@1"].thrash) == (1, 1, 0)
    assert memory["out@1"].used_at_s is not None
    assert 990 < memory["out@1"].used_at_s <= 1000
    slots.forget("out@1")
    library.forget("out@1")
    assert set(seen.memory(resident)) == {"in@1"}


def test_files_are_looked_at_a_few_at_a_time(tmp_path: Path) -> None:
    """A heartbeat must not take long, and in time all have their turn."""
    library = Library(tmp_path, "cpu", Measurements(tmp_path / "m.json", "test"))
    slots = open_slots(Device("cpu"), 2**20)
    seen = Tiers(slots, library)
    digest, manifest = write_artifact(tmp_path, linear_graph(WIDTH), {"w": torch.eye(WIDTH)})
    count = 2 * tiers.AT_A_TIME
    for number in range(count):
        slot = library.get(Function(f"f{number}", 1, digest, 0.0, manifest)).slot
        slots.acquire([slot]).release()
    hosted = []
    for _ in range(3):
        seen.look()
        hosted.append(sum(one.host_bytes > 0 for one in seen.memory({}).values()))
    assert hosted == [tiers.AT_A_TIME, count, count]


def test_the_host_budget_is_shared_by_workers_unless_it_is_set() -> None:
    """A quarter of the RAM in all."""
    assert host_budget_bytes(Settings(workers=2), 80) == 10
    assert host_budget_bytes(Settings(workers=2, host_budget_bytes=7), 80) == 7
    assert host_budget_bytes(Settings(host_budget_bytes=0), 80) == 0
