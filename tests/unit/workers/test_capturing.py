"""What runs often is captured in idle moments, while its weights are where they are."""

from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.function import Function, FunctionRef
from contract.job import TENSORS, Claim, JobId, JobSpec
from fusion.cache import DagCache
from fusion.device import Device
from fusion.graphs.cache import GraphCache
from fusion.graphs.graphs import Graphs
from fusion.measurements import Measurements
from fusion.places import PAGE_BYTES
from fusion.slots import open_slots
from tests.integration.workers.builders import linear_graph, write_artifact
from tests.unit.fusion_graphs.cpu_backend import CpuBackend
from workers.blocks import Blocks
from workers.capturing import AFTER_RUNS, Capturing, reclaiming
from workers.ceilings import Ceilings
from workers.claims import Claims
from workers.compute import Computer, DeviceTurn, Results
from workers.dags import Dags
from workers.library import Library
from workers.prefetching import Prefetcher
from workers.records import Staged, Tally
from workers.replanning import Replanning
from workers.runs import Batch

MIB = 2**20
WIDTH = 4


def _no_eager_runs(batch: Batch, tally: Tally) -> Results:
    raise AssertionError("no function here runs eagerly")


@dataclass
class Bench:
    """A worker's parts on the CPU, with a backend that captures there."""

    folder: Path
    budget_bytes: int = 64 * MIB
    functions: dict[FunctionRef, Function] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slots = open_slots(Device("cpu"), self.budget_bytes)
        self.backend = CpuBackend()
        cache = GraphCache(MIB, self.slots.charge, self.slots.refund)
        self.graphs = Graphs(self.backend, cache)
        dag_cache = DagCache(MIB, self.slots.charge, self.slots.refund)
        self.slots.reclaim_from(reclaiming(dag_cache, self.graphs))
        measurements = Measurements(self.folder / "m.json", "test")
        library = Library(self.folder, "cpu", measurements)
        self.dags = Dags(dag_cache, torch.device("cpu"), None, graphs=self.graphs)
        self.claims = Claims()
        turn = DeviceTurn(lambda: None)
        self.computer = Computer(
            library, self.slots, self.dags, self.claims, turn, _no_eager_runs,
            Ceilings(measurements),
            Blocks(self.slots, library.known, Replanning(measurements)),
            Prefetcher(self.slots, library, self.functions.__getitem__),
        )  # fmt: skip
        self.capturing = Capturing(
            self.graphs, self.dags, library, self.slots, self.computer,
            self.functions.__getitem__, lambda: self.claims.is_idle,
        )  # fmt: skip

    def deploy(self, name: str, factor: float) -> Function:
        """y = factor x."""
        weights = {"w": factor * torch.eye(WIDTH)}
        digest, manifest = write_artifact(self.folder, linear_graph(WIDTH), weights)
        function = Function(name, 1, digest, 0.0, manifest)
        self.functions[function.ref] = function
        return function

    def run(self, *functions: Function, times: int = 1) -> list[list[list[float]]]:
        """One job of each as a group; the outputs of the last time."""
        x = np.arange(WIDTH, dtype=np.float32).reshape(1, WIDTH)
        for _ in range(times):
            jobs = [self._job(function, {"x": x}) for function in functions]
            self.claims.begin("group", 4e9)
            for job in jobs:
                self.claims.hold("group", job.claim, 4e9)
            ran, ended = self.computer.compute(jobs, Tally())
            self.claims.end("group")
            assert ended == []
        return [one.outputs["y"].tolist() for one in ran]

    def _job(self, function: Function, inputs: dict[str, np.ndarray]) -> Staged:
        job = JobId(f"{function.name}-job")
        spec = JobSpec(job, function.name, 1, 1, 0.0, 4e9, 4e9, TENSORS)
        return Staged(Claim(job, 1), spec, function, inputs, 1, 0.0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def expected(*factors: float) -> list[list[list[float]]]:
    return [[[factor * k for k in range(WIDTH)]] for factor in factors]


def test_a_group_that_runs_often_is_captured_and_repeated(bench: Bench) -> None:
    """Each member, then the group; results are what they were."""
    pair = [bench.deploy("one", 1.0), bench.deploy("two", 2.0)]
    assert expected(1, 2) == bench.run(*pair, times=AFTER_RUNS)
    assert bench.capturing.capture() == 3
    before_s = bench.backend.spent_s
    assert expected(1, 2) == bench.run(*pair)
    # they are of one architecture: a stack, which is one body to capture as a member is
    assert before_s + bench.backend.costs_s["member"] == bench.backend.spent_s
    assert bench.dags.strategies() == {"one@1 x1 + two@1 x1": "stack"}
    assert bench.capturing.capture() == 0
    bench.slots.check_integrity()


def test_what_ran_a_few_times_is_not_captured(bench: Bench) -> None:
    """It may never come again."""
    bench.run(bench.deploy("one", 1.0), times=AFTER_RUNS - 1)
    assert bench.capturing.capture() == 0


def test_nothing_is_captured_while_a_group_is_under_way(bench: Bench) -> None:
    """Or while a run is on the device: a request would wait for it."""
    bench.run(bench.deploy("one", 1.0), times=AFTER_RUNS)
    bench.claims.begin("other", 4e9)
    assert bench.capturing.capture() == 0
    bench.claims.end("other")
    with bench.computer.spare_device() as is_spare:
        assert is_spare
        assert bench.capturing.capture() == 0
    assert bench.capturing.capture() == 1


def test_weights_are_not_brought_in_for_a_capture(bench: Bench) -> None:
    """Where they would lie is not where they will."""
    one = bench.deploy("one", 1.0)
    bench.run(one, times=AFTER_RUNS)
    assert bench.slots.evict(str(one.ref))
    loads = bench.slots.stats().loads
    assert bench.capturing.capture() == 0
    assert loads == bench.slots.stats().loads


def test_a_look_captures_on_a_thread_of_its_own(bench: Bench) -> None:
    """And `stop` waits for it."""
    bench.run(bench.deploy("one", 1.0), times=AFTER_RUNS)
    bench.capturing.look()
    bench.capturing.stop()
    assert bench.graphs.cache.stats().captures == 1


def test_an_error_nobody_foresaw_ends_capturing_and_nothing_else(bench: Bench) -> None:
    """Runs go on as they did."""
    one = bench.deploy("one", 1.0)
    bench.run(one, times=AFTER_RUNS)
    tries = []

    def fail(kind: str) -> Exception:
        tries.append(kind)
        return OSError("the device has gone")

    bench.backend.broken = fail
    for _ in range(3):
        bench.capturing.look()
        if bench.capturing._under_way is not None:
            wait([bench.capturing._under_way])
    assert tries == ["member"]
    assert bench.run(one) == expected(1)


def test_graphs_give_their_memory_up_for_weights(bench: Bench) -> None:
    """They are counted in the budget, and leave when slots alone cannot make room."""
    one = bench.deploy("one", 1.0)
    bench.run(one, times=AFTER_RUNS)
    bench.capturing.capture()
    held_bytes = bench.graphs.cache.stats().bytes
    assert 0 < held_bytes <= bench.slots.stats().charged_bytes
    # the page of the weights is mapped for as long as what was recorded here holds them
    bench.slots.acquire([], bench.budget_bytes - PAGE_BYTES).release()
    assert (bench.graphs.cache.stats().entries, bench.slots.stats().charged_bytes) == (0, 0)
    assert expected(1) == bench.run(one)


def test_a_function_that_is_gone_is_left_out(bench: Bench) -> None:
    """With its groups; others are captured."""
    gone, kept = bench.deploy("gone", 1.0), bench.deploy("kept", 2.0)
    bench.run(gone, times=AFTER_RUNS + 1)
    bench.run(kept, times=AFTER_RUNS)
    (bench.folder / gone.digest / "graph.json").unlink()
    forget: Callable[[str], None] = bench.capturing._library.forget
    assert bench.slots.evict(str(gone.ref))
    forget(str(gone.ref))
    assert bench.capturing.capture() == 1
