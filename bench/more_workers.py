"""What a second worker adds: answers per second of one and of two workers, a compute thread each.

The function takes tens of milliseconds of one core per row, so that little else takes part;
clients, gateway and scheduler are on the same cores and count against the workers. Both platforms
run all the time and are called in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from _intervals import Interval, ratio_interval
from _openloop import Client
from _platform import Platform, running_platform
from _report import Row, finish

BODY = json.dumps({"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}).encode()
FUNCTION = Path(__file__).parent / "functions" / "steady.py"
WORKERS = (1, 2)
# each worker has a group that runs and one that fills
CLIENTS_PER_WORKER = 8
EFFICIENCY = 0.85


def settings_of(workers: int) -> dict[str, str]:
    """Of a platform with so many workers."""
    return {
        "FUSEBOX_WORKERS": str(workers),
        "FUSEBOX_COMPUTE_THREADS": "1",
        "FUSEBOX_GATEWAYS": "1",
    }


async def rate(platform: Platform, workers: int, seconds: float) -> tuple[float, int]:
    """Answers per second of a closed loop, and calls that failed."""
    client = Client(f"{platform.url}/v1/functions/steady/invoke", BODY)
    began_s = time.monotonic()
    await client.keep_sending(CLIENTS_PER_WORKER * workers, seconds)
    client.close()
    # until the last answer: nothing of a group is cut off
    took_s = time.monotonic() - began_s
    answered = sum(reply.status == 200 for reply in client.replies)
    return answered / took_s, len(client.replies) - answered


def measure(rounds: int, seconds: float) -> list[Row]:
    """Both platforms, one after the other in every round."""
    rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    failed = 0
    with running_platform(**settings_of(1)) as one, running_platform(**settings_of(2)) as two:
        platforms = dict(zip(WORKERS, (one, two), strict=True))
        for workers, platform in platforms.items():
            platform.deploy(str(FUNCTION), "--name", "steady", "--max-batch", "8")
            platform.wait_ready()
            # weights come in, groups are built
            asyncio.run(rate(platform, workers, seconds))
        for k in range(rounds):
            for workers in WORKERS if k % 2 == 0 else WORKERS[::-1]:
                found, lost = asyncio.run(rate(platforms[workers], workers, seconds))
                rates[workers].append(found)
                failed += lost
    return rows_of(rates, failed)


def rows_of(rates: dict[int, list[float]], failed: int) -> list[Row]:
    """Efficiency: how much of twice the work of one worker two of them do."""
    one, two = (statistics.median(rates[workers]) for workers in WORKERS)
    low, high, runs = ratio_interval(rates[2], rates[1])
    # two workers on less than two cores show the machine, not the platform
    bar = EFFICIENCY if len(os.sched_getaffinity(0)) >= max(WORKERS) else None
    interval = Interval(low / 2, high / 2, runs)
    return [
        Row("1 worker", one, "1/s"),
        Row("2 workers", two, "1/s"),
        Row("efficiency of 2 workers", two / one / 2, "", bar, interval=interval),
        Row("failed calls", float(failed), "", 0.0, False),
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    rounds, seconds = (2, 2.0) if options.quick else (9, 10.0)
    return finish(measure(rounds, seconds), "Workers on one machine", options.json)


if __name__ == "__main__":
    sys.exit(main())
