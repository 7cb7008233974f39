"""What the platform itself costs: an echo function, JSON in and out, every job durable.

The load generator is `wrk` (Debian package `wrk`) on the same cores. Latency is measured with one
client, throughput with 32; the breakdown by step comes from the timings of the answers themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import requests
from _platform import Platform, running_platform
from _report import Row, finish

BODY = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
SCRIPT = f"""
wrk.method = "POST"
wrk.body = '{json.dumps(BODY)}'
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %f %f %f %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
"""
MEDIAN_MS_BAR = 5.0
RATE_BAR = 1200.0
STEPS = ("queue", "swap", "build", "compute", "hooks", "total")


class Load:
    """One run of wrk."""

    def __init__(self, url: str, connections: int, seconds: float) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(SCRIPT)
            script.flush()
            command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", script.name, url]
            printed = subprocess.run(command, text=True, capture_output=True, check=True).stdout
        found = re.search(r"RESULT (\d+) (\d+) (\S+) (\S+) (\S+) (\d+)", printed)
        assert found, printed
        count, duration_us, p50_us, p95_us, p99_us, errors = map(float, found.groups())
        self.rate = count / duration_us * 1e6
        self.p50_ms, self.p95_ms, self.p99_ms = (us / 1e3 for us in (p50_us, p95_us, p99_us))
        self.errors = int(errors)


def median_load(url: str, connections: int, seconds: float, runs: int) -> list[Load]:
    """Several runs, the slowest first by rate."""
    return sorted((Load(url, connections, seconds) for _ in range(runs)), key=lambda r: r.rate)


def breakdown(url: str, count: int) -> dict[str, float]:
    """Median of each step of lone requests, as the answers report them, and of the whole."""
    seen: dict[str, list[float]] = {step: [] for step in (*STEPS, "client")}
    with requests.Session() as session:
        for _ in range(count):
            started = time.perf_counter()
            answer = session.post(url, json=BODY).json()
            seen["client"].append((time.perf_counter() - started) * 1e3)
            for step in STEPS:
                seen[step].append(answer["timings_ms"][step])
    return {step: statistics.median(values) for step, values in seen.items()}


def processor_seconds(platform: Platform) -> dict[str, float]:
    """Processor time so far by program of the platform."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds: dict[str, float] = {}
    names = ("store.sock", "gateway.server", "workers.scheduling", "workers.worker")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environ = (folder / "environ").read_bytes()
            stat = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # the process ended while we looked
        if f"FUSEBOX_DATA={platform.data}".encode() not in environ:
            continue
        for name in names:
            if name in words:
                seconds[name] = seconds.get(name, 0) + (int(stat[11]) + int(stat[12])) / ticks
    return seconds


def measure(seconds: float, runs: int) -> list[Row]:
    """Run everything on one platform."""
    rows = []
    with running_platform() as platform:
        platform.deploy(str(Path(__file__).parent / "functions" / "echo.py"))
        platform.wait_ready()
        url = f"{platform.url}/v1/functions/echo/invoke"
        Load(url, 32, min(3.0, seconds))
        for step, value in breakdown(url, 300).items():
            rows.append(Row(f"1 client, median of step: {step}", value, "ms"))
        alone = median_load(url, 1, seconds, runs)
        before = processor_seconds(platform)
        many = median_load(url, 32, seconds, runs)
        after = processor_seconds(platform)
        middle, crowd = alone[len(alone) // 2], many[len(many) // 2]
        rows += [
            Row("1 client: median latency", middle.p50_ms, "ms", MEDIAN_MS_BAR, False),
            Row("1 client: p99 latency", middle.p99_ms, "ms"),
            Row("32 clients: requests per second", crowd.rate, "1/s", RATE_BAR),
            Row("32 clients: slowest run", many[0].rate, "1/s"),
            Row("32 clients: fastest run", many[-1].rate, "1/s"),
            Row("32 clients: median latency", crowd.p50_ms, "ms"),
            Row("32 clients: p99 latency", crowd.p99_ms, "ms"),
            Row("errors", float(sum(run.errors for run in alone + many)), "", 0.0, False),
        ]
        total = sum(run.rate for run in many) * seconds
        for name in after:
            spent_us = (after[name] - before[name]) / total * 1e6
            rows.append(Row(f"32 clients, processor time per request: {name}", spent_us, "us"))
        metrics = requests.get(platform.url + "/metrics", timeout=10).text
        drift = re.search(r"^fusebox_job_conservation_drift (\S+)$", metrics, re.MULTILINE)
        assert drift, metrics
        rows.append(Row("conservation drift", float(drift.group(1)), "jobs", 0.0, False))
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: install Debian's package `wrk`")
    seconds, runs = (4.0, 3) if options.quick else (15.0, 5)
    return finish(measure(seconds, runs), "Overhead of the platform", options.json)


if __name__ == "__main__":
    sys.exit(main())
