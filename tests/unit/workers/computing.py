"""The parts of a worker that compute, over artifacts of a test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from contract.function import Function, FunctionRef
from contract.job import TENSORS, Claim, JobId, JobSpec
from fusion.cache import DagCache
from fusion.device import Device
from fusion.ir import Graph
from fusion.measurements import Measurements
from fusion.slots import SlotTable, open_slots
from tests.integration.workers.builders import write_artifact
from workers.blocks import Blocks
from workers.ceilings import Ceilings
from workers.claims import Claims
from workers.compute import Computer, DeviceTurn, Results
from workers.dags import Call, DagRun, Dags
from workers.library import Library
from workers.prefetching import Prefetcher
from workers.records import Staged, Tally
from workers.replanning import Replanning
from workers.runs import Batch

MIB = 2**20


class WatchedDags(Dags):
    """Notes the rows of each function of every run; `before` is called with them first."""

    def __init__(self, cache: DagCache) -> None:  # type: ignore[type-arg]  # of DAGs
        super().__init__(cache, torch.device("cpu"), None)
        self.runs: list[dict[str, int]] = []
        self.before = lambda _rows: None

    def run(self, calls: Sequence[Call]) -> DagRun:
        """As ever."""
        rows = {call.name: call.rows for call in calls}
        self.runs.append(rows)
        self.before(rows)
        return super().run(calls)


@dataclass
class Parts:
    """A worker's parts on the CPU; made anew over the same folder they are a worker restarted."""

    folder: Path
    budget_bytes: int = 64 * MIB
    slots: SlotTable | None = None
    clock: Callable[[], float] = time.monotonic
    turn: DeviceTurn = field(default_factory=lambda: DeviceTurn(lambda: None))

    def __post_init__(self) -> None:
        self.slots = self.slots or open_slots(Device("cpu"), self.budget_bytes)
        cache = DagCache(MIB, self.slots.charge, self.slots.refund)
        self.measurements = Measurements(self.folder / "measured.json", "test")
        self.library = Library(self.folder, "cpu", self.measurements)
        self.dags = WatchedDags(cache)
        self.ceilings = Ceilings(self.measurements)
        self.claims = Claims()
        self.functions: dict[FunctionRef, Function] = {}
        blocks = Blocks(self.slots, self.library.known, Replanning(self.measurements))
        self.prefetcher = Prefetcher(
            self.slots, self.library, self.functions.__getitem__, self.clock, blocks.fitted
        )
        self.computer = Computer(
            self.library, self.slots, self.dags, self.claims, self.turn, _no_eager_runs,
            self.ceilings, blocks, self.prefetcher,
        )  # fmt: skip

    def deploy(self, name: str, graph: Graph, weights: dict, **changes: object) -> Function:  # type: ignore[type-arg]  # of tensors
        """A function without hooks."""
        digest, manifest = write_artifact(self.folder, graph, weights, **changes)
        function = Function(name, 1, digest, 0.0, manifest)
        self.functions[function.ref] = function
        return function

    def compute(self, jobs: Iterable[Staged], tally: Tally | None = None) -> Results:
        """Run jobs as one group."""
        jobs = list(jobs)
        group = jobs[0].claim.job
        self.claims.begin(group, 4e9)
        for job in jobs:
            self.claims.hold(group, job.claim, 4e9)
        try:
            return self.computer.compute(jobs, tally or Tally())
        finally:
            self.claims.end(group)


def a_job(function: Function, inputs: dict[str, np.ndarray], number: int = 0) -> Staged:
    """A job that waits for ever."""
    job = JobId(f"{function.name}-{number}")
    rows = len(next(iter(inputs.values())))
    spec = JobSpec(job, function.name, 1, rows, 0.0, 4e9, 4e9, TENSORS)
    return Staged(Claim(job, 1), spec, function, inputs, rows, 0.0)


def _no_eager_runs(batch: Batch, tally: Tally) -> Results:
    raise AssertionError("no function here runs eagerly")
