"""Runs that lack memory are made smaller, and how far is remembered."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.function import Function
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
from tests.integration.workers.builders import linear_graph
from tests.unit.workers.computing import MIB, Parts, a_job
from workers.records import Staged
from workers.runs import plan_runs

# a thread that starts meanwhile takes 64 MiB of addresses for its heap
ROW_BYTES = 48 * MIB


@contextmanager
def room_for(rows: int) -> Iterator[None]:
    """Let this process take so many rows more, and no further."""
    gc.collect()  # addresses that earlier tests reserved would come free meanwhile
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bytes_ = rows * ROW_BYTES * 3 // 2  # the other half is for stacks of threads and the like
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + bytes_, before[1]))
    # the heap may hold free chunks of earlier tests, for which no limit is asked
    held: list[torch.Tensor] = []
    try:
        with suppress(RuntimeError):
            while True:
                held.append(torch.empty(bytes_ + ROW_BYTES, dtype=torch.uint8))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def wide_graph() -> Graph:
    """y = mean(x w); [rows, 1] float32 to [rows], over ROW_BYTES per row in between."""
    width = ROW_BYTES // 4
    product = Node("mul.Tensor", (Ref("input", 0), Ref("weight", 0)))
    mean = Node("mean.dim", (Ref("node", 0), (1,)))
    output = Output(TensorSpec("y", "float32", (None,)), Ref("node", 1))
    return Graph(
        (TensorSpec("x", "float32", (None, 1)),),
        (WeightSpec("w", "float32", (1, width)),),
        (product, mean),
        (output,),
    )


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path, budget_bytes=4 * ROW_BYTES)


@pytest.fixture
def wide(parts: Parts) -> Function:
    weights = {"w": torch.ones(1, ROW_BYTES // 4)}
    # what was measured at deploy says nothing of it: only the run itself finds out
    function = parts.deploy("wide", wide_graph(), weights, activation_bytes={})
    # resident from here on: places for weights are reserved in the addresses that get scarce
    parts.compute(wide_jobs(function, 1))
    parts.dags.runs.clear()
    return function


def wide_jobs(wide: Function, count: int, rows: int = 1) -> list[Staged]:
    return [a_job(wide, {"x": np.full((rows, 1), k, np.float32)}, k) for k in range(count)]


def job_beside(parts: Parts) -> Staged:
    """Of a small function that is resident."""
    other = parts.deploy("other", linear_graph(4), {"w": torch.eye(4)})
    job = a_job(other, {"x": np.ones((1, 4), np.float32)})
    parts.compute([job])
    parts.dags.runs.clear()
    return job


def values(ran) -> dict[str, list[float]]:
    return {one.job.claim.job: one.outputs["y"].tolist() for one in ran}


def test_jobs_that_lack_memory_together_run_in_smaller_batches(
    parts: Parts, wide: Function
) -> None:
    """An allocation that really fails; none is lost, and the next group is not tried as large."""
    with room_for(4):
        ran, ended = parts.compute(wide_jobs(wide, 8))
    assert ended == []
    assert {f"wide-{k}": [k] for k in range(8)} == values(ran)
    assert parts.dags.runs == [{"wide@1": 8}, {"wide@1": 4}, {"wide@1": 4}]
    parts.dags.runs.clear()
    parts.compute(wide_jobs(wide, 8))
    assert parts.dags.runs == [{"wide@1": 4}, {"wide@1": 4}]
    parts.slots.check_integrity()


def test_a_ceiling_outlives_the_worker(parts: Parts, wide: Function) -> None:
    """The next one over the same data plans by it from its first run, siblings included."""
    with room_for(4):
        parts.compute(wide_jobs(wide, 8))
    assert {wide.manifest.architecture: 4} == parts.ceilings.shown()
    fresh = Parts(parts.folder)
    assert fresh.ceilings.most_rows(wide.manifest) == 4
    runs = plan_runs(wide_jobs(wide, 9), fresh.ceilings.most_rows)
    assert [len(run[0]) for run in runs] == [4, 4, 1]


def test_a_job_that_lacks_memory_by_itself_is_told_so(parts: Parts, wide: Function) -> None:
    """It cannot be made smaller; others of its group go on, and fewer rows still run."""
    beside = job_beside(parts)
    with room_for(4):
        ran, ended = parts.compute([*wide_jobs(wide, 1, rows=8), beside])
    assert values(ran) == {"other-0": [[1.0] * 4]}
    (failed,) = ended
    assert failed.error is not None
    assert (failed.error.code, failed.error.extensions) == ("out_of_memory", {"rows": 8})
    assert "wide@1 computed 8 rows at once; call it with fewer" in str(failed.error)
    ran, ended = parts.compute(wide_jobs(wide, 2))
    assert (len(ran), ended) == (2, [])


def test_one_row_that_lacks_memory_fails_and_lowers_nothing(parts: Parts, wide: Function) -> None:
    """There is nothing below one row, and memory may be there the next time."""

    def fail(_rows: dict[str, int]) -> None:
        raise MemoryError

    parts.dags.before = fail
    ran, ended = parts.compute(wide_jobs(wide, 1))
    assert (ran, len(ended)) == ([], 1)
    assert ended[0].error is not None
    assert (ended[0].error.code, ended[0].error.extensions) == ("out_of_memory", {"rows": 1})
    assert "wide@1 computed one row" in str(ended[0].error)
    assert parts.ceilings.shown() == {}


def test_a_function_beside_others_is_first_run_by_itself(parts: Parts, wide: Function) -> None:
    """The memory may have been the others'; its ceiling is lowered only for what it takes alone."""
    beside = job_beside(parts)
    with room_for(4):
        ran, ended = parts.compute([*wide_jobs(wide, 8), beside])
    assert (len(ran), ended) == (9, [])
    together = {"wide@1": 8, "other@1": 1}
    assert [together, {"wide@1": 8}, {"wide@1": 4}, {"wide@1": 4}] == parts.dags.runs


def test_memory_that_lacks_outside_of_operators_counts_too(parts: Parts) -> None:
    """As where outputs are copied: the whole run raises, each function runs alone, then less."""
    functions = [parts.deploy(n, linear_graph(4), {"w": torch.eye(4)}) for n in ("one", "two")]

    def fail_above(rows: dict[str, int]) -> None:
        if sum(rows.values()) > 2:
            raise MemoryError

    parts.dags.before = fail_above
    x = {"x": np.ones((1, 4), np.float32)}
    ran, ended = parts.compute(a_job(f, x, k) for f in functions for k in range(4))
    assert (len(ran), ended) == (8, [])
    twos = [{name: 2} for name in ("one@1", "one@1")]
    assert [{"one@1": 4, "two@1": 4}, {"one@1": 4}, *twos] == parts.dags.runs[:4]
    # of one architecture: what the first has learned holds for the second
    assert max(run.get("two@1", 0) for run in parts.dags.runs[4:]) == 4


def test_one_functions_jobs_that_do_not_fit_the_budget_run_in_halves(tmp_path: Path) -> None:
    """Activations as measured at deploy: 8 rows need more than there is, 4 do not."""
    parts = Parts(tmp_path, budget_bytes=2 * MIB)
    by_rows = {1: MIB // 4, 8: 2 * MIB}
    function = parts.deploy("f", linear_graph(4), {"w": torch.eye(4)}, activation_bytes=by_rows)
    ran, ended = parts.compute(
        a_job(function, {"x": np.ones((1, 4), np.float32)}, k) for k in range(8)
    )
    assert (len(ran), ended) == (8, [])
    assert parts.dags.runs == [{"f@1": 4}, {"f@1": 4}]
    assert parts.ceilings.shown() == {}
