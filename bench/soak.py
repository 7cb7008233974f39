"""Functions come, are called, evicted and removed; loads fail half-way; nothing of it may stay.

Slopes are least squares over the cycles after the first fifth, in which caches fill.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from _platform import ROOT, Platform, running_platform
from _report import Row, finish

from contract.errors import FunctionFailed
from contract.function import GRAPH, MANIFEST, WEIGHTS
from contract.settings import Settings
from contract.store import Store, open_store
from deploy.artifact import write_tar
from deploy.client import Body, Client
from deploy.options import Options
from deploy.package import Package, package

BUDGET_BYTES = 16_000_000
# called in every cycle: with them the newest function does not fit
KEEPERS = ("keeper-1", "keeper-2", "keeper-3")
WARM_UP = 0.2
# jobs expire within the run
RESULT_TTL_S = 2
SETTLE_S = 60.0
KINDS = {"gateway.server": "gateway", "workers.scheduling": "scheduler", "workers.worker": "worker"}
STORE = "store"


class Usage(NamedTuple):
    """What one process takes."""

    rss_bytes: int
    fds: int
    threads: int


@dataclass
class Curve:
    """Usage of every process, cycle by cycle."""

    cycles: list[int] = field(default_factory=list)
    usage: dict[tuple[str, int], list[Usage]] = field(default_factory=lambda: defaultdict(list))
    keys: list[int] = field(default_factory=list)

    def take(self, cycle: int, processes: Mapping[int, str], store: Store) -> None:
        """Measure now."""
        self.cycles.append(cycle)
        for pid, kind in processes.items():
            self.usage[kind, pid].append(usage_of(pid))
        self.keys.append(store.server.redis.dbsize())  # type: ignore[arg-type]  # redis-py's union

    def slope(self, kind: str, what: Callable[[Usage], int]) -> float:
        """The steepest of the processes of a kind, per cycle."""
        curves = [usage for (its_kind, _), usage in self.usage.items() if its_kind == kind]
        return max(self._slope([what(one) for one in usage]) for usage in curves)

    def key_slope(self) -> float:
        """Keys of the store per cycle."""
        return self._slope(self.keys)

    def _slope(self, values: list[int]) -> float:
        first = int(len(self.cycles) * WARM_UP)
        return float(np.polyfit(self.cycles[first:], values[first:], 1)[0])


def usage_of(pid: int) -> Usage:
    """From /proc."""
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines())
    rss_bytes = int(status["VmRSS"].split()[0]) * 1024
    return Usage(rss_bytes, len(list((folder / "fd").iterdir())), int(status["Threads"]))


def processes_of(platform: Platform, store: Store) -> dict[int, str]:
    """Process ids of the platform, and what each is."""
    marker = f"FUSEBOX_DATA={platform.data.resolve()}".encode()
    # the server writes its title where its environment was
    server: Any = store.server.redis.info("server")
    found = {int(server["process_id"]): STORE}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = marker in (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # another user's, or it ended while we looked
        for word, kind in KINDS.items():
            if is_ours and word in command:
                found[int(folder.name)] = kind
    return found


class Soak:
    """One platform under test, and what is deployed to it."""

    def __init__(self, platform: Platform, client: Client, store: Store, made: Package) -> None:
        self._platform = platform
        self._client = client
        self._store = store
        self._made = made
        self._processes = processes_of(platform, store)
        self._body = Body("application/json", orjson.dumps({"inputs": {"x": [[1.0] * 1024]}}))
        self._count = 0

    def deploy(self, name: str) -> str:
        """Deploy a version whose bytes differ from those of all others; its digest."""
        self._count += 1
        folder = self._made.tar.parent
        manifest = replace(self._made.manifest, timeout_ms=30_000.0 + self._count)
        (folder / MANIFEST).write_bytes(manifest.encode())
        tar = folder / "next.tar"
        digest = write_tar(tar, {name_: folder / name_ for name_ in (GRAPH, WEIGHTS, MANIFEST)})
        self._client.deploy(name, tar, digest)
        return digest

    def call_keepers(self) -> None:
        """Run what pushes everything else out."""
        for keeper in KEEPERS:
            self._client.call(keeper, self._body)

    def cycle(self, name: str) -> None:
        """Deploy, invoke, evict, delete."""
        self.deploy(name)
        self._client.call(name, self._body)
        self.call_keepers()
        self._client.remove(name)

    def failing_load(self, name: str) -> None:
        """Deploy, break the weights on disk, invoke, delete; alternately short and altered."""
        weights = self._platform.data / "artifacts" / self.deploy(name) / WEIGHTS
        with weights.open("r+b") as file:
            if self._count % 2:
                file.truncate(weights.stat().st_size // 2)
            else:
                file.seek(weights.stat().st_size // 2)
                file.write(b"\xff" * 4096)
        try:
            answer = self._client.call(name, self._body)
            # a busy platform may answer before the job has settled
            status = self._client.wait(answer["job"])["status"]
        except FunctionFailed:
            status = "failed"
        assert status == "failed", f"{name} has broken weights, yet its job {status}"
        self._client.remove(name)

    def run(self, count: int, step: Callable[[str], None], name: str) -> Curve:
        """Repeat a step, measuring about a hundred times."""
        curve = Curve()
        every = max(1, count // 100)
        for number in range(count):
            step(f"{name}-{number}")
            if number % every == 0:
                curve.take(number, self._processes, self._store)
        return curve

    def check_alive(self) -> None:
        """No process was replaced on the way: slopes would not show its leaks."""
        assert processes_of(self._platform, self._store) == self._processes, self._platform.tail()

    def worker(self) -> tuple[int, int, int]:
        """Resident bytes, functions and evictions, once nothing that was removed is resident."""
        self.call_keepers()
        called_at_s = time.time()
        while True:
            [report] = self._client.workers()
            names = {ref.partition("@")[0] for ref in report["functions"]}
            is_newer = report["heartbeat_at_s"] > called_at_s
            if is_newer and names <= set(KEEPERS):
                return report["resident_bytes"], len(names), report["evictions"]
            assert time.time() < called_at_s + SETTLE_S, f"still resident: {names}"
            time.sleep(0.2)  # the worker looks for removed functions every few seconds


def rows_of(curve: Curve, what: str) -> Iterator[Row]:
    """A row per kind of process and resource."""
    for kind in (*KINDS.values(), STORE):
        rss = curve.slope(kind, lambda one: one.rss_bytes) / 1024
        yield Row(f"{what}: {kind} RSS per cycle", rss, "KiB", 8, higher_is_better=False)
        fds = curve.slope(kind, lambda one: one.fds)
        yield Row(f"{what}: {kind} descriptors per cycle", fds, "", 0.01, higher_is_better=False)
        threads = curve.slope(kind, lambda one: one.threads)
        yield Row(f"{what}: {kind} threads per cycle", threads, "", 0.01, higher_is_better=False)
    # the number of the next version of every name that ever was
    keys = curve.key_slope()
    yield Row(f"{what}: keys of the store per cycle", keys, "", 1.1, higher_is_better=False)


def measure(soak: Soak, cycles: int, failures: int) -> list[Row]:
    """Both runs and what is left at the end."""
    before_bytes, _, evictions_before = soak.worker()
    lived = soak.run(cycles, soak.cycle, "soak")
    after_bytes, _, evictions = soak.worker()
    failed = soak.run(failures, soak.failing_load, "broken")
    last_bytes, functions, _ = soak.worker()
    soak.check_alive()
    grown = (after_bytes - before_bytes, last_bytes - before_bytes)
    return [
        *rows_of(lived, "lived"),
        *rows_of(failed, "failed"),
        Row("lived: evictions per cycle", (evictions - evictions_before) / cycles, "", 1),
        Row("lived: resident bytes left", grown[0], "B", 0, higher_is_better=False),
        Row("failed: resident bytes left", grown[1], "B", 0, higher_is_better=False),
        Row("functions resident at the end", functions, "", len(KEEPERS), higher_is_better=False),
    ]


def main() -> int:
    """Run it, print the rows, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--failures", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="50 cycles, 30 failing loads")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    given = parser.parse_args()
    cycles, failures = (50, 30) if given.quick else (given.cycles, given.failures)
    limits = {
        "FUSEBOX_MEMORY_BUDGET": str(BUDGET_BYTES),
        "FUSEBOX_RESULT_TTL_S": str(RESULT_TTL_S),
        "FUSEBOX_DEVICE": "cpu",
    }
    with tempfile.TemporaryDirectory() as folder, running_platform(**limits) as platform:
        options = Options(name="keeper")
        made = package(ROOT / "bench/functions/wide.py", options, Path(folder), lambda _step: None)
        store = open_store(Settings(data=platform.data).redis_url)
        with Client(platform.url) as client:
            soak = Soak(platform, client, store, made)
            for keeper in KEEPERS:
                soak.deploy(keeper)
            rows = measure(soak, cycles, failures)
        store.close()
    title = f"soak: {cycles} cycles of deploy, invoke, evict, delete; {failures} failing loads"
    return finish(rows, title, given.json)


if __name__ == "__main__":
    sys.exit(main())
