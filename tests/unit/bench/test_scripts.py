"""Scripts run as users run them, in short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.simulator import Delays, Fleet, FunctionProfile, Profile, simulate
from bench.simulator.recorded import Measured, save
from bench.simulator.workloads import poisson

ROOT = Path(__file__).resolve().parents[3]


def rows_of(script: str, *args: str, out: Path) -> dict[str, Any]:
    """Run it and read its rows by case; what misses its bar on a busy machine is no failure."""
    command = [sys.executable, f"bench/{script}", "--quick", "--json", str(out), *args]
    # threads that wait for each other on a busy machine would take most of the time
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert done.returncode == (0 if all(row["ok"] for row in rows) else 1)
    return {row["case"]: row for row in rows}


@pytest.mark.parametrize(
    ("args", "case", "others"),
    [
        ((), "mlp, 2 functions", {"eager", "eager-1", "apart", "bare", "fusedinf"}),
        (("--zoo",), "mlp, 2 functions", {"apart"}),
    ],
)
def test_ratios_say_what_they_rest_on(
    tmp_path: Path, args: tuple[str, ...], case: str, others: set[str]
) -> None:
    """Every ratio has an interval around it, and how many runs it is of."""
    rows = rows_of("fused_vs_separate.py", "--only", case, *args, out=tmp_path / "rows.json")
    ratios = {name: row for name, row in rows.items() if row["unit"] == "x"}
    assert {f"{case}: {other} / fused" for other in others} == set(ratios)
    for row in ratios.values():
        assert 0 < row["low"] <= row["high"]
        assert row["runs"] >= 7


def test_building_is_timed_apart_from_finding(tmp_path: Path) -> None:
    """New functions, known ones, a cached DAG; what is found must not be built."""
    rows = rows_of("building.py", "--only", "mlp", out=tmp_path / "rows.json")
    found, known, new = (
        next(row["value"] for name, row in rows.items() if f": {what} " in name)
        for what in ("found", "known", "new")
    )
    assert 0 < found < known < new
    bars = {row["bar"] for row in rows.values()}
    assert bars == {None, 10.0, 0.1}


def test_eviction_by_cost_is_kept_because_it_loads_less(tmp_path: Path) -> None:
    """In virtual time the same calls give the same figures, so all bars hold on any machine."""
    rows = rows_of("eviction.py", out=tmp_path / "rows.json")
    assert all(row["ok"] for row in rows.values())
    barred = {name for name, row in rows.items() if row["bar"] is not None}
    assert sum(name.startswith("Zipf 1.1, one size") for name in barred) == 3


@pytest.mark.long
@pytest.mark.parametrize("script", ["cycles.py", "room.py", "doors.py"])
def test_what_runs_a_platform_answers_every_call(tmp_path: Path, script: str) -> None:
    """What is measured must have been computed."""
    rows = rows_of(script, out=tmp_path / "rows.json")
    failed = next(row for name, row in rows.items() if "failed calls" in name)
    assert failed["value"] == 0
    assert all(row["ok"] for name, row in rows.items() if "difference" in name)


@pytest.mark.long
def test_the_scheduler_is_timed_with_workers_that_are_played(tmp_path: Path) -> None:
    """Groups are planned, sent, settled and heard of, however many workers there are."""
    rows = rows_of("dispatching.py", out=tmp_path / "rows.json")
    for workers in (1, 16, 64):
        case = f"{workers} workers, groups of 8 jobs"
        assert 0 < rows[f"{case}: processor time of a group"]["value"] < 1000
        assert rows[f"{case}: groups here"]["value"] > 0


@pytest.mark.long
def test_memory_is_told_apart(tmp_path: Path) -> None:
    """Context, weights and the rest make up the total; one process has one context, not two."""
    rows = rows_of("memory.py", out=tmp_path / "rows.json")
    for way in ("fused", "separate", "together"):
        parts = [
            rows[f"2 small models: {way}, {part}"]["value"]
            for part in ("context", "weights", "activations")
        ]
        assert min(parts[:2]) > 0
        assert sum(parts) == pytest.approx(rows[f"2 small models: {way}, total"]["value"])
    apart = rows["2 small models: separate, context"]["value"]
    assert apart > rows["2 small models: together, context"]["value"]


@pytest.mark.long
def test_swapping_in_is_timed_cold_and_warm(tmp_path: Path) -> None:
    """Every way is timed in both states, and held against what only moves the bytes."""
    rows = rows_of("swap_in.py", out=tmp_path / "rows.json")
    name = "small ResNet-18"
    for state, limit, bar in (("cold", "direct", 0.7), ("warm", "copy", 0.8)):
        bars = {"anew": None, "naive": 10.0, "tuned": 2.5, limit: bar}
        ratios = {way: rows[f"{name}, {state}: {way} / slot"] for way in bars}
        assert bars == {way: row["bar"] for way, row in ratios.items()}
        assert all(0 < row["low"] <= row["value"] <= row["high"] for row in ratios.values())
    assert ratios["naive"]["value"] > 1


def test_the_simulator_is_held_against_recorded_runs(tmp_path: Path) -> None:
    """A run that was simulated itself is met exactly; workers that do not meet scale."""
    functions = {name: FunctionProfile({1: (0.01, 0.012), 8: (0.04,)}, 0.1, 0.5) for name in "abc"}
    made = Profile(functions, Delays((0.001,)))
    made.write(tmp_path / "profile.json")
    for name in ("poisson", "bursts", "busy"):
        work = poisson(dict.fromkeys("abc", 15.0), 5.0, seed=1)
        report = simulate("laxity", work, Fleet.of(1), made, 0)
        save(tmp_path, name, work.calls, Measured(1.0, 5.0, report.summary(1.0, 5.0)))
    args = ("validation", "workers", "--profile", str(tmp_path))
    rows = rows_of("simulate.py", *args, out=tmp_path / "rows.json")
    for name in ("poisson", "bursts", "busy"):
        for what in ("throughput", "p99"):
            row = rows[f"{name}: {what}, off by"]
            assert row["value"] < 0.01
            assert row["bar"] == 0.15
    assert rows["4 workers: efficiency"]["value"] > 0.9
