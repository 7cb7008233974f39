"""What the scheduler's process takes for one group, from its jobs' arrival to its report.

The scheduler is the product's own, over a store of its own; its workers are played by this process:
they end every group as soon as they have it and report the time it would have taken, and as many
jobs come again. Shares are of the scheduler's processor time, so it does not count that store and
workers have the same cores.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgpack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

from _report import Row, finish
from _store import MANIFEST, empty_store

from contract import keys
from contract.function import FunctionRef
from contract.job import TENSORS, JobId, JobSpec, Outcome, Status, Submission, new_job_id
from contract.store import Store
from contract.store.queue import GroupReport, Settlement
from contract.store.workers import DagCacheReport, WorkerReport

ROOT = Path(__file__).resolve().parents[1]
WORKERS = (1, 16, 64)
FUNCTIONS = 6
# a group is never larger, so that groups are as large however many workers there are
GROUP_JOBS = 8
# for each place of a worker: what runs, and what waits for it
OUTSTANDING = 2 * GROUP_JOBS
PLACES = 2
# of a group: what all members take, and each row
BASE_S, ROW_S = 0.002, 0.001
SLO_S, TIMEOUT_S = 1.0, 30.0
WARM_S, PATIENCE_S = 1.0, 4
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Players:
    """Workers that take no time."""

    def __init__(self, store: Store, count: int) -> None:
        self._store, self._names = store, [f"w{number}" for number in range(count)]
        self._refs = [FunctionRef(f"f{number}", 1) for number in range(FUNCTIONS)]
        self._turns = itertools.cycle(self._refs)
        for ref in self._refs:
            store.functions.publish(ref.name, "b" * 64, replace(MANIFEST, max_batch=GROUP_JOBS))
        for name in self._names:
            store.workers.report(self._report(name), 600, is_news=True)

    def come(self, count: int) -> None:
        """So many jobs arrive, of all functions in turn."""
        now_s = time.time()
        end_s = now_s + TIMEOUT_S
        refs = itertools.islice(self._turns, count)
        submissions = [
            Submission(
                JobSpec(new_job_id(), ref.name, 1, 1, now_s, now_s + SLO_S, end_s, TENSORS),
                b"x", True, "g",
            )
            for ref in refs
        ]  # fmt: skip
        assert self._store.jobs.submit(submissions, 10**9, 10**9) == [None] * count

    def play(self, seconds: float) -> int:
        """Run what is sent; the number of groups."""
        groups, until_s = 0, time.monotonic() + seconds
        while time.monotonic() < until_s:
            came = 0
            for message in self._messages():
                came += self._end(*message)
                groups += 1
            self.come(came)
        return groups

    def _messages(self) -> list[tuple[str, str, Sequence[JobId]]]:
        """Worker, group and jobs of all that is there; waits for the first."""
        queues = [keys.queue(name) for name in self._names]
        redis = self._store.server.redis
        first = redis.brpop(queues, timeout=PATIENCE_S)
        assert first is not None, "the scheduler sends nothing"
        pipeline = redis.pipeline(transaction=False)
        for queue in queues:
            pipeline.rpop(queue, PLACES)
        of_queue = dict(zip(queues, self._names, strict=True))
        taken = [(of_queue[first[0].decode()], first[1])]
        for name, messages in zip(self._names, pipeline.execute(), strict=True):
            taken += [(name, message) for message in messages or ()]
        return [(worker, *_read(message)) for worker, message in taken]

    def _end(self, worker: str, group: str, jobs: Sequence[JobId]) -> int:
        """Settle a group; the number of its jobs."""
        fetched = self._store.queue.fetch(group, jobs)
        done = Outcome(Status.SUCCEEDED, outputs={})
        settlements = [Settlement(one.claim, done, 0, 1000, 1) for one in fetched]
        rows = Counter(one.spec.function for one in fetched)
        report = GroupReport(
            group, worker, [(name, 1, count) for name, count in rows.items()],
            BASE_S * len(rows) + ROW_S * len(fetched), 0.0, 0.0, jobs=len(fetched),
        )  # fmt: skip
        assert all(self._store.queue.settle(settlements, {}, group, report))
        return len(fetched)

    def _report(self, name: str) -> WorkerReport:
        resident = {str(ref): MANIFEST.weight_bytes for ref in self._refs}
        return WorkerReport(
            id=name, device="cpu", device_name="cpu", pid=1, places=PLACES, budget_bytes=10**9,
            resident_bytes=0, process_bytes=0, baseline_bytes=0, functions=resident, hosted=[],
            dag_cache=DagCacheReport(), loads=0, evictions=0, is_draining=False, started_at_s=0.0,
            heartbeat_at_s=time.time(),
        )  # fmt: skip


def _read(message: bytes) -> tuple[str, Sequence[JobId]]:
    """Group and jobs of a message."""
    [group, jobs], _, _ = msgpack.unpackb(base64.b64decode(json.loads(message)["body"]))
    return group, jobs


@contextmanager
def scheduler(store: Store) -> Iterator[int]:
    """The process id of a scheduler over this store."""
    environment = {
        **os.environ,
        "REDIS_URL": store.server.url,
        "FUSEBOX_GROUP_JOBS": str(GROUP_JOBS),
        "FUSEBOX_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "workers.scheduling"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def processor_s(pid: int) -> float:
    """Processor time of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def measure(workers: int, seconds: float) -> list[Row]:
    """A scheduler with so many workers."""
    with empty_store() as store, scheduler(store) as pid:
        players = Players(store, workers)
        players.come(workers * PLACES * OUTSTANDING)
        players.play(WARM_S)
        before_s, began_s = processor_s(pid), time.monotonic()
        groups = players.play(seconds)
        took_s, clock_s = processor_s(pid) - before_s, time.monotonic() - began_s
    case = f"{workers} workers, groups of {GROUP_JOBS} jobs"
    return [
        Row(f"{case}: processor time of a group", 1e3 * took_s / groups, "ms"),
        Row(f"{case}: groups for a processor", groups / took_s, "1/s"),
        Row(f"{case}: groups here", groups / clock_s, "1/s"),
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    seconds = 1.0 if options.quick else 10.0
    rows = [row for workers in WORKERS for row in measure(workers, seconds)]
    return finish(rows, "The scheduler's processor time", options.json)


if __name__ == "__main__":
    sys.exit(main())
