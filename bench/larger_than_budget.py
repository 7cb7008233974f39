"""One function of four times the budget, deployed on a platform, called over HTTP.

Answers are compared with eager PyTorch. The peak is the worker process's own: the kernel's
high-water mark begins anew once it is ready, before it has seen the function.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np
import requests
from _larger import (
    ANSWER_S,
    BESIDE_BYTES,
    NAME,
    Size,
    call,
    eager,
    handler_of,
    high_water_bytes,
    worker_of,
)
from _platform import running_platform
from _report import Row, finish

TOLERANCE = 1e-4
QUICK, FULL, LARGE = Size(2048, 12), Size(4096, 16), Size(8192, 32)


class Found(NamedTuple):
    """What was measured."""

    differences: list[float]
    latencies_s: list[float]
    growth_bytes: int
    plan: dict[str, Any]


def measure(size: Size, calls: int) -> Found:
    """Deploy, call, and read the worker's peak."""
    x = np.random.default_rng(0).standard_normal((calls, 1, size.width)).astype(np.float32)
    source = handler_of(size)
    expected = [eager(source, each) for each in x]
    with (
        tempfile.TemporaryDirectory() as folder,
        running_platform("--budget", str(size.budget_bytes)) as platform,
    ):
        path = Path(folder) / f"{NAME}.py"
        path.write_text(source)
        worker = Path(f"/proc/{worker_of(platform.url)['pid']}")
        done = platform.fusebox("deploy", str(path), "--max-batch", "2", timeout_s=ANSWER_S)
        assert done.returncode == 0, f"{done.stderr}\n{platform.tail()}"
        platform.wait_ready()
        (worker / "clear_refs").write_text("5")  # the high-water mark begins anew
        before_bytes = high_water_bytes(worker)
        differences, latencies_s = [], []
        for each, want in zip(x, expected, strict=True):
            began_s = perf_counter()
            got = call(platform.url, each)
            latencies_s.append(perf_counter() - began_s)
            differences.append(float(np.abs(got - want).max() / np.abs(want).max()))
        growth_bytes = high_water_bytes(worker) - before_bytes
        return Found(differences, latencies_s, growth_bytes, _plan(platform.url))


def _plan(url: str) -> dict[str, Any]:
    """What the worker says of its blocks, with one of its next signs of life."""
    give_up_at_s = perf_counter() + ANSWER_S
    while perf_counter() < give_up_at_s:
        described = requests.get(f"{url}/v1/functions/{NAME}", timeout=ANSWER_S).json()
        if "blocks" in described["execution"]:
            plan: dict[str, Any] = described["execution"]["blocks"]
            return plan
        sleep(0.1)  # another process: there is nothing to wait on but its answers
    raise AssertionError(f"no worker has reported blocks of {NAME}")


def rows_of(size: Size, found: Found) -> list[Row]:
    """The figures and their bars."""
    plan, budget = found.plan, size.budget_bytes
    most_bytes = budget + BESIDE_BYTES
    return [
        Row("bytes of weights", size.weight_bytes / 1e6, "MB"),
        Row("budget", budget / 1e6, "MB"),
        Row("right answers", float(sum(d <= TOLERANCE for d in found.differences)), "",
            float(len(found.differences))),
        Row("largest relative difference", max(found.differences), "", TOLERANCE, False),
        Row("growth at its peak (beside: 32 MB)", found.growth_bytes / 1e6, "MB", most_bytes / 1e6,
            False),
        Row("planned: ring and resident part",
            (plan["ring_bytes"] + plan["resident_bytes"]) / 1e6, "MB", budget / 1e6, False),
        Row("blocks", float(len(plan["block_bytes"])), ""),
        Row("first answer", found.latencies_s[0], "s"),
        Row("later answers, median", median(found.latencies_s[1:]), "s"),
    ]  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 MB, under a minute")
    parser.add_argument("--large", action="store_true", help="8.6 GB under a budget of 2.1 GB")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    size = QUICK if options.quick else LARGE if options.large else FULL
    found = measure(size, 4 if options.quick else 8)
    return finish(rows_of(size, found), "A function of four times the budget", options.json)


if __name__ == "__main__":
    sys.exit(main())
