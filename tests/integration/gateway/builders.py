"""Functions, artifacts and workers as the gateway's tests need them."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np

from contract.function import Manifest
from contract.job import TENSORS, Claim, Outcome, Status
from contract.store import Store, open_store
from contract.store.queue import Cursor, Fetched, GroupReport, Settlement
from contract.store.workers import DagCacheReport, FunctionMemory, WorkerReport
from tests.integration.claiming import claim_group
from tests.unit.gateway.manifests import ECHO, MANIFEST, weights_file

TIMINGS = {"queue": 0.5, "swap": 0.0, "build": 0.25, "compute": 1.0, "hooks": 0.0, "total": 2.0}
Compute = Callable[[Fetched], Outcome]


def artifact(manifest: Manifest = MANIFEST, **changed: bytes | None) -> dict[str, bytes]:
    """Members of an artifact by name; `changed` replaces some, None leaves one out."""
    members: dict[str, bytes | None] = {
        "manifest.json": manifest.encode(),
        "graph.json": ECHO.encode(),
        "weights.safetensors": weights_file(),
        **({"handler.py": b"def preprocess(p): ..."} if manifest.has_hooks else {}),
        **{name.replace("__", "."): data for name, data in changed.items()},
    }
    return {name: data for name, data in members.items() if data is not None}


def pack(members: dict[str, bytes]) -> bytes:
    """An uncompressed tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def digest_header(data: bytes) -> str:
    """`Content-Digest` of a body."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def report(**changes: Any) -> WorkerReport:
    """What a worker says of itself."""
    now_s = time.time()
    default = WorkerReport(
        id="w1",
        device="cpu",
        device_name="a processor",
        pid=1,
        places=2,
        budget_bytes=150_000_000,
        resident_bytes=16,
        process_bytes=1_000,
        baseline_bytes=900,
        functions={"echo@1": 16},
        hosted=["kept@1"],
        dag_cache=DagCacheReport(1, 10, 5, 2, 1),
        loads=3,
        evictions=2,
        is_draining=False,
        started_at_s=now_s,
        heartbeat_at_s=now_s,
        strategies={"echo@1 x1 + kept@1 x2": "serial"},
        measured={"echo@1 x1 + kept@1 x2": {"serial": 1.0, "branches": 1.5}},
        tiers={"echo@1": {"1": {"generated": 0.5}}},
        thrash=1,
        memory={
            "kept@1": FunctionMemory(
                "host", 0, 80, 3, 0.75, 1, 0.5, 3, 1, 6.0, 30.0, 1.0, 2.0, now_s - 90
            ),
            "echo@1": FunctionMemory("device", 16, 16, 1, 0.25, 1, 0.25, 0, 0, 0, 0, None, None, 0),
        },
    )
    return replace(default, **changes)


def echo(fetched: Fetched) -> Outcome:
    """Outputs equal inputs; a raw body comes back as the result."""
    if fetched.spec.payload_type == TENSORS:
        return succeeded(outputs=msgpack.unpackb(fetched.payload))
    return succeeded(
        result={"type": fetched.spec.payload_type, "body": fetched.payload.decode("latin-1")}
    )


def succeeded(**fields: Any) -> Outcome:
    """The outcome of a job that ran in a group of two."""
    return Outcome(Status.SUCCEEDED, timings_ms=TIMINGS, group_jobs=2, group_functions=1, **fields)


class FakeWorker(threading.Thread):
    """Scheduler and worker in one: claims what is pending, computes and settles it."""

    def __init__(self, redis_url: str, compute: Compute = echo) -> None:
        super().__init__(daemon=True)
        self.compute = compute
        self._store = open_store(redis_url)
        self._stop_asked = threading.Event()
        assert self._store.workers.lead("scheduler", "token", 600)
        self._store.workers.report(report(), 600, is_news=False)

    def run(self) -> None:
        """Work until `stop`."""
        with closing(self._store.server.blocking()) as link:
            cursor = Cursor("0-0", "$")
            while not self._stop_asked.is_set():
                news = self._store.queue.wait(link, cursor, 5)
                cursor = news.cursor
                if news.jobs:
                    self._run_group([spec.id for spec in news.jobs])

    def stop(self) -> None:
        """Stop it, and wait until it has."""
        self._stop_asked.set()
        self._store.workers.report(report(), 600, is_news=True)
        self.join()
        self._store.close()

    def _run_group(self, jobs: list[Any]) -> None:
        queue = self._store.queue
        group = jobs[0]
        assert claim_group(queue, "token", "w1", group, time.time() + 60, jobs) is not None
        settlements = [
            Settlement(Claim(f.claim.job, f.claim.fence), self.compute(f), 3, 2_000, f.spec.rows)
            for f in queue.fetch(group, jobs)
        ]
        now_s = time.time()
        ended = GroupReport(
            jobs[0], "w1", [("echo", 1, len(jobs))], 0.02, 0, 0, strategies=["concat"],
            began_at_s=now_s - 0.02, ended_at_s=now_s, jobs=len(jobs),
        )  # fmt: skip
        queue.settle(settlements, {}, jobs[0], ended)


def publish(store: Store, name: str = "echo", manifest: Manifest = MANIFEST) -> None:
    """Deploy without an upload."""
    store.functions.publish(name, "b" * 64, manifest)


def rows(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Input of `echo`: [count, 4] float32."""
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)
