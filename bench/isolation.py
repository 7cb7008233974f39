"""What one function's misbehaviour costs the callers of another.

A well-behaved function with hooks is called without pause, with and without clients of another
function whose hook misbehaves: in turn, several times. The bar is on the ratio of the 99th
percentiles of its latency over all turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import requests
from _platform import Platform, running_platform
from _report import Row, finish
from functions.offender import WAYS

FUNCTIONS = Path(__file__).parent / "functions"
P99_RATIO_BAR = 1.5
CLIENTS = 2
OFFENDERS = 2
LIMITS = {
    "FUSEBOX_HANDLER_TIMEOUT_S": "3",
    "FUSEBOX_HANDLER_MEMORY": "512MiB",
    "FUSEBOX_COMPUTE_THREADS": "1",
}
BODY = {"numbers": [1.0] * 64}


class Turn(NamedTuple):
    """Latencies of the well-behaved function in one turn, and how the other's calls ended."""

    latencies_s: list[float]
    wrong: int
    codes: set[str]


def p99_s(latencies_s: Sequence[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(latencies_s, n=100, method="inclusive")[98]


def call_steadily(url: str, until_s: float, latencies_s: list[float], wrong: list[str]) -> None:
    """One client of the well-behaved function."""
    with requests.Session() as session:
        while time.monotonic() < until_s:
            began_s = time.perf_counter()
            answer = session.post(url, json=BODY, timeout=60)
            latencies_s.append(time.perf_counter() - began_s)
            if answer.status_code != 200 or answer.json()["result"] != 1.0:
                wrong.append(answer.text)


@contextmanager
def offenders(url: str, way: str) -> Iterator[set[str]]:
    """Clients that keep the offender busy; yields the codes of its answers."""
    codes: set[str] = set()
    over = threading.Event()

    def call() -> None:
        with requests.Session() as session:
            while not over.is_set():
                answer = session.post(url, json={"way": way}, timeout=60)
                codes.add(answer.json().get("code", "succeeded"))
                # an offender that answers at once must not be a load test of the gateway
                over.wait(0.05)

    threads = [threading.Thread(target=call) for _ in range(OFFENDERS if way else 0)]
    for thread in threads:
        thread.start()
    try:
        yield codes
    finally:
        over.set()
        for thread in threads:
            thread.join()


def take_turn(platform: Platform, way: str, seconds: float) -> Turn:
    """Call the well-behaved function for so long; `way` is empty for a turn without offender."""
    steady = f"{platform.url}/v1/functions/mean/invoke"
    latencies_s: list[float] = []
    wrong: list[str] = []
    with offenders(f"{platform.url}/v1/functions/offender/invoke", way) as codes:
        until_s = time.monotonic() + seconds
        args = (steady, until_s, latencies_s, wrong)
        clients = [threading.Thread(target=call_steadily, args=args) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    return Turn(latencies_s, len(wrong), codes)


def measure(ways: Sequence[str], seconds: float, turns: int) -> list[Row]:
    """Every way in turn with a turn without the offender."""
    rows, wrong, calls = [], 0, 0
    with running_platform(**LIMITS) as platform:
        for name in ("mean", "offender"):
            platform.deploy(str(FUNCTIONS / f"{name}.py"), "--name", name)
        platform.wait_ready()
        take_turn(platform, "", 2.0)
        for way in ways:
            alone: list[float] = []
            beside: list[float] = []
            for _ in range(turns):
                for found, its_way in ((alone, ""), (beside, way)):
                    turn = take_turn(platform, its_way, seconds)
                    found += turn.latencies_s
                    wrong += turn.wrong
                    calls += len(turn.latencies_s)
            print(f"{way}: offender's answers {sorted(turn.codes)}", flush=True)
            ratio = p99_s(beside) / p99_s(alone)
            rows += [
                Row(f"{way}: p99 over p99 without it", ratio, "x", P99_RATIO_BAR, False),
                Row(f"{way}: p99 with it", p99_s(beside) * 1e3, "ms"),
                Row(f"{way}: p99 without it", p99_s(alone) * 1e3, "ms"),
                Row(f"{way}: calls with it over calls without", len(beside) / len(alone), "x"),
            ]
    rows.append(Row("calls of the well-behaved function", float(calls), ""))
    rows.append(Row("of these, wrong answers", float(wrong), "", 0.0, False))
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--way", choices=sorted(WAYS), help="only this one")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    seconds, turns = (3.0, 1) if options.quick else (5.0, 4)
    rows = measure([options.way] if options.way else list(WAYS), seconds, turns)
    return finish(rows, "A well-behaved function beside one that is not", options.json)


if __name__ == "__main__":
    sys.exit(main())
