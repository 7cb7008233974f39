"""Predicted against measured times of groups, under mixed traffic of six functions.

Clients call functions at random, with numbers of rows at random, each after its answer; the load
alternates between few and many clients, so that groups are small and large. What the scheduler had
predicted travels in the reports of groups, which this script reads as the scheduler does; compute
time is predicted again by the same model, fed by the same reports. Counted are groups whose members
have all run 50 times.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import msgpack
import numpy as np
from _platform import ROOT, Platform, running_platform
from _plot import scatter_plot
from _report import Row, finish

from contract.function import FunctionRef
from contract.settings import Settings
from contract.store import Store, open_store
from contract.store.queue import Cursor, GroupReport
from contract.store.telemetry import COMPUTE, TOTAL
from contract.tensors import encode_tensor
from deploy.client import Body, Client
from workers.scheduling.costs import Costs
from workers.scheduling.records import WorkerView

FUNCTIONS = Path(__file__).parent / "functions"
# by name: its file and the shape of a row
MODELS = {
    "image-1": ("image.py", (3, 64, 64)),
    "image-2": ("image.py", (3, 64, 64)),
    "layers-1": ("layers.py", (512,)),
    "layers-2": ("layers.py", (512,)),
    "wide": ("wide.py", (1024,)),
    "steady": ("steady.py", (4,)),
}
ROWS = (1, 2, 4, 8)
# of the clients, one after the other
CLIENTS = (1, 3, 8)
RUNS, BAR = 50, 0.15
PLOT = ROOT / "docs" / "images" / "prediction.svg"


class Pair(NamedTuple):
    """One group."""

    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Relative to what was measured."""
        return abs(self.predicted_s - self.measured_s) / self.measured_s


class Seen:
    """The groups that have ended, as a scheduler would have foreseen them."""

    def __init__(self) -> None:
        self.compute: list[Pair] = []
        self.total: list[Pair] = []
        self.members: list[int] = []
        self.early: list[Pair] = []
        self._costs = Costs()
        self._runs: Counter[FunctionRef] = Counter()

    @property
    def runs(self) -> int:
        """Of the function that ran least."""
        return min((self._runs[ref] for ref in self._runs), default=0) if self.is_complete else 0

    @property
    def is_complete(self) -> bool:
        """Whether every function has run."""
        return len(self._runs) == len(MODELS)

    def take(self, report: GroupReport) -> None:
        """A group has ended."""
        rows = {FunctionRef(name, version): n for name, version, n in report.members}
        if not rows or report.compute_s <= 0:
            return
        view = WorkerView(report.worker, 0, 0, frozenset(), lanes=report.lanes)
        pair = Pair(self._costs.group_s(rows, view), report.compute_s)
        self._costs.learn(report)
        self._runs.update(rows.keys())
        if min(self._runs[ref] for ref in rows) <= RUNS:
            self.early.append(pair)
            return
        self.compute.append(pair)
        self.members.append(len(rows))
        if report.predicted_s > 0:
            measured_s = report.swap_s + report.build_s + report.compute_s
            self.total.append(Pair(report.predicted_s, measured_s))


def watch(store: Store, seen: Seen, stop: threading.Event) -> None:
    """Read the reports of groups until `stop` is set."""
    link = store.server.blocking()
    cursor = Cursor(pending="$", signals=store.queue.signal_tail())
    while not stop.is_set():
        news = store.queue.wait(link, cursor, 0.1)
        cursor = news.cursor._replace(pending="$")
        for event in news.events:
            if event.kind == "group":
                seen.take(GroupReport.decode(event.data))
    link.close()


def body_of(name: str, rows: int) -> Body:
    """A call of this function with ones."""
    x = np.ones((rows, *MODELS[name][1]), np.float32)
    packed = msgpack.packb({"inputs": {"x": encode_tensor(x)}})
    assert isinstance(packed, bytes)
    return Body("application/msgpack", packed)


def call(url: str, seed: int, until_s: float) -> int:
    """Calls one after another until then; how many."""
    draws, calls = random.Random(seed), 0
    with Client(url) as client:
        while time.monotonic() < until_s:
            name, rows = draws.choice([*MODELS]), draws.choice(ROWS)
            client.call(name, body_of(name, rows), wait_s=60)
            calls += 1
    return calls


def run(platform: Platform, seconds: float) -> Seen:
    """Traffic in turns of few and many clients, until every function has run often enough."""
    seen, stop = Seen(), threading.Event()
    store = open_store(Settings(data=platform.data).redis_url)
    watching = threading.Thread(target=watch, args=(store, seen, stop))
    watching.start()
    try:
        turn_s, end_s = seconds / (2 * len(CLIENTS)), time.monotonic() + seconds
        for turn, clients in enumerate(CLIENTS * 1000):
            if time.monotonic() >= end_s and (seen.compute or time.monotonic() >= end_s + seconds):
                break
            until_s = time.monotonic() + turn_s
            with ThreadPoolExecutor(clients) as pool:
                calls = [pool.submit(call, platform.url, 100 * turn + k, until_s)
                         for k in range(clients)]  # fmt: skip
                assert sum(each.result() for each in calls)
        time.sleep(1.5)  # another process: it publishes once a second
        published = store.telemetry.prediction_error()
        assert COMPUTE in published
        assert TOTAL in published
    finally:
        stop.set()
        watching.join()
        store.close()
    return seen


def rows_of(seen: Seen) -> list[Row]:
    """The claim, and what it rests on."""
    alone = [p for p, n in zip(seen.compute, seen.members, strict=True) if n == 1]
    fused = [p for p, n in zip(seen.compute, seen.members, strict=True) if n > 1]
    rows = [Row("groups whose members ran 50 times before", float(len(seen.compute)), "")]
    cases = (
        ("compute time", seen.compute, BAR),
        ("of groups of one function", alone, None),
        ("of groups of several", fused, None),
        ("swap, build and compute, as the policy foresaw it", seen.total, None),
        ("compute time of the first 50 runs", seen.early, None),
    )
    for case, pairs, bar in cases:
        errors = [pair.error for pair in pairs]
        row = Row(f"{case}: median error", median(errors) if errors else None, "", bar, False)
        rows.append(row)
        rows += [
            Row(f"{case}: error, p{share}", float(np.quantile(errors, share / 100)), "")
            for share in (25, 75, 90)
            if errors
        ]
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, plot where asked, and compare with the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="ten seconds")
    parser.add_argument("--seconds", type=float, default=90.0, help="of traffic")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    parser.add_argument("--plot", metavar="FILE", help=f"such as {PLOT.relative_to(ROOT)}")
    options = parser.parse_args(words)
    with running_platform(FUSEBOX_GATEWAYS="1") as platform:
        for name, (file, _) in MODELS.items():
            platform.deploy(str(FUNCTIONS / file), "--name", name)
        seen = run(platform, 10.0 if options.quick else options.seconds)
    if options.plot:
        points = {
            "one function": [(1e3 * p.measured_s, 1e3 * p.predicted_s)
                             for p, n in zip(seen.compute, seen.members, strict=True) if n == 1],
            "several": [(1e3 * p.measured_s, 1e3 * p.predicted_s)
                        for p, n in zip(seen.compute, seen.members, strict=True) if n > 1],
        }  # fmt: skip
        scatter_plot(
            options.plot, "Compute time of groups", "measured, ms", "predicted, ms", points
        )
    return finish(rows_of(seen), "Predicted against measured times of groups", options.json)


if __name__ == "__main__":
    sys.exit(main())
