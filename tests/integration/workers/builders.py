"""Deployed functions and a real worker process for tests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from celery import Celery

from contract import keys
from contract.function import Function, Manifest, graph_files
from contract.job import TENSORS, JobId, JobSpec, Outcome, Submission, new_job_id
from contract.settings import Settings
from contract.store import Store
from contract.store.queue import Cursor
from contract.store.replies import listen
from contract.store.workers import WorkerReport
from contract.tensors import Tensors, TensorSpec, pack_tensors
from fusion.ir import Graph, Node, Output, Ref, WeightSpec
from fusion.ir import TensorSpec as GraphSpec
from fusion.weights import write_weights
from tests.integration.claiming import claim_group
from workers.celery_app import Envelopes, make_app

WAITER = "gateway-test"
LEADER = "test-leader"
PATIENCE_S = 20.0


def linear_graph(width: int) -> Graph:
    """y = x W^T, [rows, width] float32."""
    spec = GraphSpec("x", "float32", (None, width))
    weight = WeightSpec("w", "float32", (width, width))
    node = Node("linear", (Ref("input", 0), Ref("weight", 0)))
    return Graph((spec,), (weight,), (node,), (Output(spec._replace(name="y"), Ref("node", 0)),))


def picking_graph() -> Graph:
    """Rows of a table by index, [rows] int64; one outside of it shows only when it is computed."""
    indices = GraphSpec("x", "int64", (None,))
    table = WeightSpec("w", "float32", (8, 4))
    shifted = Node("add.Scalar", (Ref("input", 0), 0))
    node = Node("embedding", (Ref("weight", 0), Ref("node", 0)))
    out = Output(GraphSpec("y", "float32", (None, 4)), Ref("node", 1))
    return Graph((indices,), (table,), (shifted, node), (out,))


def write_artifact(
    artifacts: Path,
    graph: Graph,
    weights: Mapping[str, torch.Tensor],
    handler: str = "",
    **changes: object,
) -> tuple[str, Manifest]:
    """An artifact as the gateway leaves it on disk; its digest and its manifest."""
    digest = hashlib.sha256(os.urandom(16)).hexdigest()
    folder = artifacts / digest
    folder.mkdir(parents=True)
    buckets = changes.get("row_buckets", ())
    for name, rows in zip(graph_files(buckets), buckets or [None], strict=True):  # type: ignore[arg-type, call-overload]  # of the manifest
        (folder / name).write_bytes(replace(graph, fixed_rows=rows or graph.fixed_rows).encode())
    if buckets:
        graph = replace(graph, fixed_rows=buckets[0])  # type: ignore[index]  # as above
    index = write_weights(folder / "weights.safetensors", weights)
    if handler:
        (folder / "handler.py").write_text(handler)
    values: dict[str, object] = {
        "architecture": graph.architecture,
        "inputs": tuple(TensorSpec(*spec) for spec in graph.inputs),
        "outputs": tuple(TensorSpec(*output.spec) for output in graph.outputs),
        "parameters": 1,
        "weight_bytes": index.total_bytes,
        "activation_bytes": {1: 4096, 8: 32768},
        "operators_exported": len(graph.nodes),
        "operators": len(graph.nodes),
        "max_batch": 8,
        "is_batchable": True,
        "has_preprocess": "def preprocess" in handler,
        "has_postprocess": "def postprocess" in handler,
        "slo_ms": None,
        "timeout_ms": 30_000.0,
        "keep_alive_s": None,
    }
    manifest = Manifest(**values | changes)  # type: ignore[arg-type]  # built by name
    (folder / "manifest.json").write_bytes(manifest.encode())
    return digest, manifest


@dataclass
class Platform:
    """A store, an artifact folder, and the part of scheduler and gateway that a worker meets."""

    store: Store
    settings: Settings
    app: Celery
    envelopes: Envelopes
    answers: dict[JobId, Outcome] = field(default_factory=dict)
    _came: threading.Condition = field(default_factory=threading.Condition)
    _stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def start(cls, store: Store, data: Path) -> Platform:
        """Listen for replies and become the leading scheduler."""
        settings = Settings(data=data, store_url=store.server.url)
        app = make_app(settings)
        platform = cls(store, settings, app, Envelopes(app))
        subscribed = threading.Event()
        args = (store.server, WAITER, platform._deliver, subscribed.set, platform._stop)
        platform._thread = threading.Thread(target=listen, args=args)  # type: ignore[attr-defined]
        platform._thread.start()  # type: ignore[attr-defined]
        assert subscribed.wait(PATIENCE_S)
        assert store.workers.lead("scheduler", LEADER, 3600)
        return platform

    def stop(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join()  # type: ignore[attr-defined]
        self.envelopes.close()
        self.app.close()

    def deploy(
        self,
        name: str,
        graph: Graph | None = None,
        weights: Mapping[str, torch.Tensor] | None = None,
        handler: str = "",
        **changes: object,
    ) -> Function:
        """A function; by default four floats in, the same four out."""
        graph = graph or linear_graph(4)
        weights = {"w": torch.eye(4)} if weights is None else weights
        digest, manifest = write_artifact(
            self.settings.artifacts, graph, weights, handler, **changes
        )
        return self.store.functions.publish(name, digest, manifest)

    def deploy_eager(
        self, name: str, handler: str, weights: Mapping[str, torch.Tensor], **changes: object
    ) -> Function:
        """A function without a graph: four floats in, four floats out."""
        digest, manifest = write_artifact(
            self.settings.artifacts, linear_graph(4), weights, handler, is_eager=True, **changes
        )
        return self.store.functions.publish(name, digest, manifest)

    def submit(
        self,
        function: Function,
        payload: bytes | Tensors,
        payload_type: str = TENSORS,
        timeout_s: float = 30.0,
    ) -> JobId:
        """Accept a job as a gateway does."""
        now_s = time.time()
        data = payload if isinstance(payload, bytes) else pack_tensors(payload)
        spec = JobSpec(
            new_job_id(), function.name, function.version, 1, now_s, now_s + timeout_s,
            now_s + timeout_s, payload_type,
        )  # fmt: skip
        refusals = self.store.jobs.submit([Submission(spec, data, True, WAITER)], 10_000, 10_000)
        assert refusals == [None]
        return spec.id

    def claim(self, worker: str, jobs: list[JobId], lease_s: float = 10.0) -> str:
        """Claim jobs as the scheduler does, without sending them; the group's id."""
        group = os.urandom(4).hex()
        claims = claim_group(self.store.queue, LEADER, worker, group, time.time() + lease_s, jobs)
        assert claims is not None
        return group

    def dispatch(self, worker: str, jobs: list[JobId], lease_s: float = 10.0) -> None:
        """Claim jobs and send them to the worker as one group."""
        self.send(worker, self.claim(worker, jobs, lease_s), jobs)

    def send(self, worker: str, group: str, jobs: list[JobId]) -> None:
        """Send a group, claimed before, to the worker."""
        message = self.envelopes.seal(worker, group, jobs)
        self.store.server.redis.lpush(keys.queue(worker), message)

    def wait_for_groups(self, tail: str, count: int) -> None:
        """Wait until this many groups have ended since the signal `tail`."""
        cursor = Cursor("$", tail)
        with closing(self.store.server.blocking()) as link:
            while count > 0:
                news = self.store.queue.wait(link, cursor, PATIENCE_S)
                assert news.events, "no group ended"
                count -= sum(event.kind == "group" for event in news.events)
                cursor = news.cursor

    def wait(self, job: JobId) -> Outcome:
        """The outcome of a job, once it is published."""
        with self._came:
            assert self._came.wait_for(lambda: job in self.answers, PATIENCE_S), "no answer"
            return self.answers[job]

    def run(self, worker: str, *jobs: JobId) -> list[Outcome]:
        """Dispatch jobs as one group and wait for them."""
        self.dispatch(worker, list(jobs))
        return [self.wait(job) for job in jobs]

    def _deliver(self, job: JobId, data: bytes) -> None:
        with self._came:
            self.answers[job] = Outcome.decode(data)
            self._came.notify_all()


@dataclass
class WorkerProcess:
    """A real `python -m workers.worker`."""

    process: subprocess.Popen[bytes]
    report: WorkerReport

    @property
    def id(self) -> str:
        """The worker's id."""
        return self.report.id

    @classmethod
    def start(cls, platform: Platform, **settings: str) -> WorkerProcess:
        """Start a worker and wait until it has reported itself."""
        known = {report.id for report in platform.store.workers.all()}
        tail = platform.store.queue.signal_tail()
        environ = os.environ | {
            "REDIS_URL": platform.store.server.url,
            "FUSEBOX_DATA": str(platform.settings.data),
            "FUSEBOX_DEVICE": "cpu",
            "FUSEBOX_HEARTBEAT_S": "0.2",
            "FUSEBOX_MEMORY_BUDGET": "64MB",
        }
        process = subprocess.Popen([sys.executable, "-m", "workers.worker"], env=environ | settings)
        give_up_at = time.monotonic() + 60
        cursor = Cursor("$", tail)
        with closing(platform.store.server.blocking()) as link:
            while time.monotonic() < give_up_at:
                assert process.poll() is None, "the worker ended"
                news = platform.store.queue.wait(link, cursor, 1)
                cursor = news.cursor
                for report in platform.store.workers.all() if news.events else []:
                    if report.pid == process.pid and report.id not in known:
                        return cls(process, report)
        process.kill()
        raise AssertionError("the worker did not report itself")

    def now(self, platform: Platform) -> WorkerReport | None:
        """Its newest report."""
        found = [r for r in platform.store.workers.all() if r.id == self.id]
        return found[0] if found else None

    def stop(self) -> int:
        """End it, kindly; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)


def floats(*values: float) -> Tensors:
    """One row of input."""
    return {"x": np.array([values], np.float32)}


def output_of(outcome: Outcome, name: str = "y") -> list[list[float]]:
    """An output as nested lists."""
    assert outcome.outputs is not None, outcome
    record = json.loads(json.dumps({k: v for k, v in outcome.outputs[name].items() if k != "data"}))
    data = np.frombuffer(outcome.outputs[name]["data"], record["dtype"])
    return data.reshape(record["shape"]).tolist()  # type: ignore[no-any-return]
