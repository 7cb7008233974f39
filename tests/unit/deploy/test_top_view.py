"""`fusebox top`: rates are of the time between two moments."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from contract.store.telemetry import LATENCY_BOUNDS_S, latency_bucket
from deploy.top_screen import screen
from deploy.top_view import Moment, view

WORKER: dict[str, Any] = {
    "id": "w-1",
    "device": "cpu",
    "budget_bytes": 150_000_000,
    "resident_bytes": 134_676_144,
    "process_bytes": 440_000_000,
    "baseline_bytes": 299_000_000,
    "functions": {"resnet-1@1": 44_892_048},
    "loads": 9,
    "evictions": 6,
    "thrash": 2,
    "memory": {
        "resnet-2@1": {
            "tier": "host",
            "device_bytes": 0,
            "host_bytes": 44_892_160,
            "loads": 4,
            "load_s": 0.02,
            "disk_loads": 1,
            "disk_load_s": 0.01,
            "evictions": 4,
            "thrash": 1,
            "idle_s": 2.0,
            "stayed_s": 6.0,
            "last_idle_s": 0.1,
            "last_stayed_s": 0.2,
            "used_at_s": 99.0,
        },
        "resnet-1@1": {
            "tier": "device",
            "device_bytes": 44_892_160,
            "host_bytes": 0,
            "loads": 0,
            "load_s": 0.0,
            "disk_loads": 0,
            "disk_load_s": 0.0,
            "evictions": 0,
            "thrash": 0,
            "idle_s": 0.0,
            "stayed_s": 0.0,
            "last_idle_s": None,
            "last_stayed_s": None,
            "used_at_s": None,
        },
    },
    "dag_cache": {"entries": 3, "bytes": 4096, "hits": 30, "misses": 10, "evictions": 1},
    "strategies": {"a@1 x1 + b@1 x1": "branches", "a@1 x1 + c@1 x1": "serial"},
    "measured": {
        "a@1 x1 + b@1 x1": {"serial": 3.0, "branches": 2.0},
        "a@1 x1 + c@1 x1": {"serial": 1.0, "branches": 4.0},
    },
    "is_draining": False,
}


def stats(at_s: float, rows: int, *latencies_s: float, drift: int = 0) -> dict[str, Any]:
    """GET /v1/stats with one function."""
    latency = [0] * (len(LATENCY_BOUNDS_S) + 1)
    for latency_s in latencies_s:
        latency[latency_bucket(latency_s)] += 1
    function = {
        "name": "resnet-1",
        "version": 1,
        "tier": "device",
        "weight_bytes": 44_892_048,
        "queued": 5,
        "rows": rows,
        "latency": latency,
        "jobs": {"failed": 2},
        "slo_ms": 50.0,
        "answered_per_s": 20.0,
        "goodput_per_s": 15.5,
        "latency_ms": 12.5,
        "utility": 4.3821,
        "late": 3,
        "violations": 4,
        "refusals": {"queue_full": 2, "wait_too_long": 1},
    }
    jobs = {"queued": 5, "running": 1, "drift": drift}
    scheduling = {
        "policy": "laxity",
        "decisions": 100,
        "dispatches": 40,
        "decision_p50_ms": 0.125,
        "decision_p99_ms": None,
    }
    errors = {"total": {"median": 0.125, "p90": 0.5, "groups": 9}}
    found = {"at_s": at_s, "functions": [function], "jobs": jobs, "scheduling": scheduling}
    return found | {"prediction_error": errors}


def test_rates_and_latencies_are_of_what_happened_in_between() -> None:
    """What was slow before is not shown as slow now."""
    before = Moment(stats(100.0, 10, 9.0, 9.0), [WORKER])
    after = Moment(stats(104.0, 50, 9.0, 9.0, *[0.004] * 8), [WORKER])
    (line,) = view(before, after).functions
    assert (line.rows_per_s, line.jobs_per_s) == (10.0, 2.0)
    assert line.p99_ms is not None
    assert 3.0 <= line.p99_ms <= 5.0


def test_a_function_that_answered_nothing_has_no_latency() -> None:
    """Zero would be a lie."""
    moment = Moment(stats(100.0, 10, 9.0), [WORKER])
    (line,) = view(moment, moment).functions
    assert (line.rows_per_s, line.p50_ms, line.p99_ms) == (0.0, None, None)


def test_counters_that_began_anew_do_not_go_backwards() -> None:
    """A function may be removed and deployed again between two refreshes."""
    before = Moment(stats(100.0, 1000, 0.1, 0.1), [WORKER])
    (line,) = view(before, Moment(stats(101.0, 0), [WORKER])).functions
    assert (line.rows_per_s, line.p50_ms) == (0.0, None)


def test_the_screen_shows_tiers_bytes_queues_rates_and_caches() -> None:
    """Everything that the view holds, at the width of a usual terminal."""
    before, after = Moment(stats(0.0, 0), [WORKER]), Moment(stats(1.0, 7, 0.004), [WORKER])
    console = Console(width=80)
    with console.capture() as captured:
        console.print(screen(view(before, after), "http://here"))
    shown = captured.get()
    for text in (
        "resnet-1@1",
        "device",
        "44.9 MB",
        "7.0",
        "150.0 MB",
        "30/40 hits 75%",
        "w-1",
        "5 queued",
        "9 loads   6 evictions   2 thrash   grown 141.0 MB",
        "1 branches, 1 serial   up to 1.50 times as fast as serial",
    ):
        assert text in shown


@pytest.mark.parametrize("workers", [1, 2])
def test_the_screen_of_memory_shows_tiers_loads_and_ages(workers: int) -> None:
    """The last used first; dashes where nothing happened; of whom, where there are several."""
    moments = [Moment(stats(1.0, 0), [WORKER, WORKER | {"id": "w-2"}][:workers])] * 2
    console = Console(width=80 + 4 * (workers - 1))
    with console.capture() as captured:
        console.print(screen(view(*moments), "u", "memory"))
    lines = captured.get().splitlines()
    [head] = [number for number, line in enumerate(lines) if line.startswith("FUNCTION")]
    worker = "w-1 " * (workers - 1)
    assert " ".join(lines[head + 1].split()) == f"{worker}resnet-1@1 device 44.9 MB - 0 0 - 0 - - 0"
    assert " ".join(lines[head + 2].split()) == (
        f"{worker}resnet-2@1 host - 44.9 MB 4 1 5 ms 4 500 ms 1.50 s 1"
    )


@pytest.mark.parametrize(
    ("strategies", "measured", "expected"),
    [
        ({}, {}, "none yet"),
        ({"a + b": "branches"}, {}, "1 branches"),
        ({"a + b": "serial", "a + c": "serial"}, {"a + b": {"serial": 1.0}}, "2 serial"),
    ],
)
def test_a_gain_is_shown_only_where_it_was_measured(
    strategies: dict[str, str], measured: dict[str, dict[str, float]], expected: str
) -> None:
    """Groups whose members run one after another gain nothing."""
    worker = WORKER | {"strategies": strategies, "measured": measured}
    console = Console(width=80)
    with console.capture() as captured:
        console.print(screen(view(*[Moment(stats(1.0, 0), [worker])] * 2), "u"))
    line = next(line for line in captured.get().splitlines() if "groups" in line)
    assert line.split(maxsplit=1)[1].strip() == expected


def test_drift_is_shown_only_where_there_is_some() -> None:
    """It must read 0, so any other number stands out."""
    quiet = Moment(stats(0.0, 0), [WORKER])
    faulty = Moment(stats(1.0, 0, drift=3), [])
    console = Console(width=100)
    with console.capture() as captured:
        console.print(screen(view(quiet, faulty), "u"))
    assert "drift 3" in captured.get()
    assert "no worker is alive" in captured.get()


def test_the_screen_of_service_shows_what_became_of_the_slo() -> None:
    """Mean latency, goodput, utility, violations, refusals; and how the scheduler decides."""
    console = Console(width=80)
    with console.capture() as captured:
        console.print(screen(view(*[Moment(stats(1.0, 0), [WORKER])] * 2), "u", "slo"))
    lines = captured.get().splitlines()
    assert " ".join(lines[-1].split()) == "resnet-1@1 50 ms 12.5 ms 20.0 15.5 +4.38 4 3"
    assert any("policy laxity   100 decisions, 40 groups sent" in line for line in lines)
    assert any("a decision takes 0.125 ms (p99 -)" in line for line in lines)
    assert "predictions off by 12%" in captured.get()


def test_the_screen_of_service_says_when_nobody_decides() -> None:
    """The rates are then unknown."""
    unknown = dict.fromkeys(("answered_per_s", "goodput_per_s", "latency_ms", "utility"))
    found = stats(1.0, 0)
    found["scheduling"] = None
    found["functions"][0] |= unknown
    console = Console(width=80)
    with console.capture() as captured:
        console.print(screen(view(*[Moment(found, [WORKER])] * 2), "u", "slo"))
    assert "no scheduler leads" in captured.get()
    assert " ".join(captured.get().splitlines()[-1].split()) == "resnet-1@1 50 ms - - - - 4 3"


def a_group(worker: str, began_at_s: float, ended_at_s: float) -> dict[str, Any]:
    """One of GET /v1/groups."""
    return {
        "worker": worker,
        "jobs": 3,
        "members": [{"function": "a", "version": 1, "rows": 2}],
        "strategies": ["concat"],
        "predicted_ms": 12.0,
        "measured_ms": 13.0,
        "began_at_s": began_at_s,
        "ended_at_s": ended_at_s,
    }


def test_the_screen_of_groups_has_a_line_of_the_last_second_per_worker() -> None:
    """As long as the group was on the device; what only ended before it is not on it."""
    groups = [
        a_group("w-2", 9.5, 10.0),
        a_group("w-1", 9.25, 9.5),
        a_group("w-1", 8.0, 9.0),
        a_group("w-1", 0.0, 0.0),
    ]
    moment = Moment(stats(1.0, 0), [WORKER], groups)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(screen(view(moment, moment), "u", "groups"))
    lines = captured.get().splitlines()
    head = lines.index("the last second on each device, 60 columns")
    for k, worker, before, width in ((1, "w-1", 15, 15), (2, "w-2", 30, 30)):
        name, line = lines[head + k][:13], lines[head + k][13:]
        assert name.strip() == worker
        assert len(line) - len(line.lstrip()) == before
        assert len(line.strip()) == width
    assert "w-2 a x2 concat 3 12 ms 13 ms" in [" ".join(line.split()) for line in lines]


def test_the_screen_of_groups_says_when_none_ran() -> None:
    """An empty picture would say nothing."""
    moment = Moment(stats(1.0, 0), [WORKER])
    console = Console(width=80)
    with console.capture() as captured:
        console.print(screen(view(moment, moment), "u", "groups"))
    assert "no group has run of late" in captured.get()
