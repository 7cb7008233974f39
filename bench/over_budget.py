"""Eight functions of 45 MB under a budget of 150 MB, called by eight clients at once.

Every answer is compared with eager PyTorch; workers are asked all the time what they hold.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import requests
import torch
from _platform import ROOT, Platform, running_platform
from _report import Row, finish

FAMILY = ROOT / "examples" / "resnet-family"
NAMES = [f"resnet-{number}" for number in range(1, 9)]
INPUT = "images"
BUDGET_BYTES = 150_000_000
CLIENTS = 8
TOLERANCE = 1e-4


@dataclass
class Tally:
    """What the clients saw; appended to by all of them."""

    latencies_s: list[float] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    cold: list[bool] = field(default_factory=list)
    group_functions: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass
class Watch:
    """What the worker said of its memory."""

    resident_bytes: list[int] = field(default_factory=list)
    # measured growth of the process over reported resident bytes, when nothing was under way
    growth_ratios: list[float] = field(default_factory=list)
    loads: int = 0
    evictions: int = 0


def expected_outputs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per function an input and what eager PyTorch makes of it."""
    sys.path.insert(0, str(FAMILY))
    found = {}
    for number, name in enumerate(NAMES):
        handler = importlib.import_module(name)
        model = handler.load().eval()
        shape = handler.example_inputs()[INPUT].shape
        x = torch.randn(1, *shape[1:], generator=_seed(number))
        with torch.inference_mode():
            [output] = model(x).values()
        found[name] = (x.numpy(), output.numpy())
    return found


def _seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def call_until(
    platform: Platform, pairs: dict[str, tuple[np.ndarray, np.ndarray]], end_s: float, first: int
) -> Tally:
    """One client: the functions in turn, each from a different start."""
    tally = Tally()
    bodies = {name: {"inputs": {INPUT: pairs[name][0].tolist()}} for name in NAMES}
    with requests.Session() as session:
        turn = first
        while time.monotonic() < end_s:
            name = NAMES[turn % len(NAMES)]
            turn += 3  # coprime to eight: every client visits all, never in step
            url = f"{platform.url}/v1/functions/{name}/invoke"
            started_s = time.perf_counter()
            answer = session.post(url, json=bodies[name], timeout=60)
            tally.latencies_s.append(time.perf_counter() - started_s)
            if answer.status_code != 200:
                tally.failures.append(f"{name}: {answer.status_code} {answer.text[:300]}")
                continue
            body = answer.json()
            [output] = body["outputs"].values()
            want = pairs[name][1]
            difference = np.abs(np.array(output, np.float32) - want).max() / np.abs(want).max()
            tally.differences.append(float(difference))
            tally.cold.append(body["timings_ms"]["swap"] > 0)
            tally.group_functions.append(body["group"]["functions"])
    return tally


def watch_until(platform: Platform, stop: threading.Event) -> Watch:
    """Read the worker's own figures until told to stop."""
    watch = Watch()
    while not stop.wait(0.2):
        read_worker(platform, watch)
    return watch


def read_worker(platform: Platform, watch: Watch) -> None:
    """One reading; the growth counts when something is resident."""
    [worker] = requests.get(platform.url + "/v1/workers", timeout=10).json()["workers"]
    watch.resident_bytes.append(worker["resident_bytes"])
    watch.loads, watch.evictions = worker["loads"], worker["evictions"]
    if worker["resident_bytes"]:
        growth = worker["process_bytes"] - worker["baseline_bytes"]
        watch.growth_ratios.append(growth / worker["resident_bytes"])


def measure(seconds: float) -> list[Row]:
    """Load the platform for this long."""
    pairs = expected_outputs()
    with running_platform("--budget", str(BUDGET_BYTES)) as platform:
        for name in NAMES:
            platform.deploy(str(FAMILY / f"{name}.py"), "--name", name)
        platform.wait_ready()
        end_s = time.monotonic() + seconds
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            watching = pool.submit(watch_until, platform, stop)
            clients = [pool.submit(call_until, platform, pairs, end_s, n) for n in range(CLIENTS)]
            tallies = [client.result() for client in clients]
            stop.set()
            watch = watching.result()
        # heartbeats come every second: after two the figures are those of an idle worker
        time.sleep(2.5)
        idle = Watch()
        read_worker(platform, idle)
        states = requests.get(platform.url + "/v1/stats", timeout=10).json()["jobs"]
    return rows_of(tallies, watch, idle, states, seconds)


def rows_of(
    tallies: list[Tally], watch: Watch, idle: Watch, states: dict[str, int], seconds: float
) -> list[Row]:
    """The figures and their bars."""
    failures = [failure for tally in tallies for failure in tally.failures]
    for failure in failures[:5]:
        print(failure, file=sys.stderr)
    latencies_ms = sorted(s * 1e3 for tally in tallies for s in tally.latencies_s)
    differences = [d for tally in tallies for d in tally.differences]
    cold = [c for tally in tallies for c in tally.cold]
    groups = [n for tally in tallies for n in tally.group_functions]
    unsettled = states["queued"] + states["running"]
    return [
        Row("answers", float(len(differences)), ""),
        Row("failed calls", float(len(failures)), "", 0.0, False),
        Row("jobs that failed", float(states["failed"] + states["expired"]), "", 0.0, False),
        Row("jobs unsettled at the end", float(unsettled), "", 0.0, False),
        Row("largest relative difference to eager", max(differences), "", TOLERANCE, False),
        Row("most bytes resident", max(watch.resident_bytes) / 1e6, "MB", 150.0, False),
        Row("idle: process growth over resident bytes", idle.growth_ratios[-1], "x", 1.10, False),
        Row("idle: the same, from below", idle.growth_ratios[-1], "x", 0.90),
        Row("under load: median of growth ratio", statistics.median(watch.growth_ratios), "x"),
        Row("throughput", len(differences) / seconds, "1/s"),
        Row("median latency", statistics.median(latencies_ms), "ms"),
        Row("p99 latency", latencies_ms[int(len(latencies_ms) * 0.99)], "ms"),
        Row("share of calls that waited for weights", sum(cold) / len(cold), ""),
        Row("functions in a call's group, mean", statistics.mean(groups), ""),
        Row("loads", float(watch.loads), ""),
        Row("evictions", float(watch.evictions), ""),
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    rows = measure(10.0 if options.quick else 60.0)
    return finish(rows, "Eight functions, room for three", options.json)


if __name__ == "__main__":
    sys.exit(main())
