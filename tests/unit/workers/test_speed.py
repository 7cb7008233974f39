"""A device's speed, measured once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from fusion.measurements import Measurements
from workers.speed import NOT_MEASURED, RUNS, WITHIN_S, Speed, find_speed, measure

CPU = torch.device("cpu")


def test_a_speed_is_measured_once_and_kept_over_restarts(tmp_path: Path) -> None:
    """By number of threads; in the file of the other measurements."""
    first = Measurements(tmp_path / "m.json", "test")
    speed = find_speed(first, CPU, torch.get_num_threads(), 5)
    assert speed.flops > 1e8
    assert speed.memory_bytes_per_s > 1e8
    first.save()
    later = Measurements(tmp_path / "m.json", "test")
    assert find_speed(later, CPU, torch.get_num_threads(), 5) == speed
    assert later.speed(torch.get_num_threads() + 1) == {}


def test_nothing_is_measured_where_there_is_no_time(tmp_path: Path) -> None:
    """FUSEBOX_WARM_UP_S=0."""
    measurements = Measurements(tmp_path / "m.json", "test")
    assert find_speed(measurements, CPU, 1, 0) == NOT_MEASURED
    assert measurements.speed(1) == {}


@pytest.mark.parametrize("kept", [{"flops": 1e9}, {"flops": "fast", "memory_bytes_per_s": 1e9}])
def test_what_is_no_speed_is_measured_again(tmp_path: Path, kept: dict[str, object]) -> None:
    """A file may hold anything."""
    path = tmp_path / "m.json"
    record = {"format": 1, "device": "test", "tiers": {}, "groups": {}, "hot": []}
    path.write_text(json.dumps(record | {"speed": {"1": kept}}))
    measurements = Measurements(path, "test")
    assert measurements.problem == ""
    assert find_speed(measurements, CPU, 1, 0.01).flops > 1e8


def test_measuring_ends_in_time() -> None:
    """Two runs of each beyond the limit at most."""
    began_s = time.perf_counter()
    speed = measure(CPU, 0.0)
    assert isinstance(speed, Speed)
    # a slow machine takes longer for one run, not for more of them
    one_s = 2 * 512**3 / speed.flops + 64 * 2**20 / speed.memory_bytes_per_s
    assert time.perf_counter() - began_s < 10 * one_s + WITHIN_S * RUNS
