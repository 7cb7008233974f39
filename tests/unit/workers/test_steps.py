"""The pure steps of a group: which jobs run together, what is settled, what is renewed."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import FunctionFailed, FuseboxError, InvalidInput, OutOfMemory
from contract.job import TENSORS, TIMINGS, Claim, JobId, JobSpec, Status
from contract.keys import COUNTERS, stats
from fusion.errors import BudgetExceeded, GraphError, IntegrityError, MemberError, WeightsError
from fusion.plan import row_bucket
from tests.unit.workers.conftest import a_function
from workers import settle
from workers.calls import scratch_bytes
from workers.claims import Claims
from workers.records import Ended, Staged, Tally, Times
from workers.runs import halves, jobs_of, plan_runs, singly, without
from workers.stage import check_inputs
from workers.translation import translate
from workers.worker import worker_id


def a_job(number: int = 0, name: str = "f", rows: int = 1, is_batchable: bool = True) -> Staged:
    """A staged job, accepted at second 100."""
    function = a_function(name, is_batchable=is_batchable)
    spec = JobSpec(JobId(f"{number:024d}"), name, 1, rows, 100.0, 130.0, 130.0, TENSORS)
    return Staged(Claim(spec.id, 1), spec, function, {}, rows, 0.0)


jobs = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 8)).map(lambda t: t), max_size=30
).map(lambda pairs: [a_job(i, name, rows, name != "c") for i, (name, rows) in enumerate(pairs)])


@given(jobs)
def test_runs_cover_every_job_once_and_keep_within_max_batch(jobs: list[Staged]) -> None:
    """No job is lost or doubled; a run has one batch per function; functions keep their order."""
    runs = plan_runs(jobs)
    ran = [job.spec.id for run in runs for job in jobs_of(run)]
    assert sorted(job.spec.id for job in jobs) == sorted(ran)
    for run in runs:
        names = [batch[0].function.name for batch in run]
        assert len(set(names)) == len(names)
        for batch in run:
            assert len({job.function.ref for job in batch}) == 1
            assert sum(job.rows for job in batch) <= batch[0].function.manifest.max_batch
            assert len(batch) == 1 or batch[0].function.manifest.is_batchable
    for name in "abc":
        ids = [job.spec.id for run in runs for job in jobs_of(run) if job.function.name == name]
        assert sorted(ids) == ids


@given(jobs)
def test_parts_of_a_run_hold_what_the_run_held(jobs: list[Staged]) -> None:
    """Halved, taken apart, or with some jobs left out."""
    for run in plan_runs(jobs):
        ids = {job.spec.id for job in jobs_of(run)}
        parts = [singly(run), halves(run)] if len(run) > 1 else [singly(run)]
        for split in parts:
            assert ids == {job.spec.id for part in split for job in jobs_of(part)}
        first = jobs_of(run)[0]
        assert ids - {first.spec.id} == {j.spec.id for j in jobs_of(without(run, [first]))}


def test_inputs_are_checked_against_the_manifest() -> None:
    """Rows when they fit, else the field."""
    function = a_function()
    assert check_inputs(function, {"x": np.zeros((3, 4), np.float32)}) == 3
    with pytest.raises(InvalidInput, match=r"inputs\.x: expected 1 to 8 rows, got 9 rows"):
        check_inputs(function, {"x": np.zeros((9, 4), np.float32)})


@pytest.mark.parametrize(("rows", "expected"), [(1, 16), (2, 32), (8, 128), (16, 256)])
def test_scratch_lies_on_a_line_through_what_was_measured(rows: int, expected: int) -> None:
    """One row took 16 bytes, eight took 128."""
    assert expected == scratch_bytes((a_job(rows=rows),))


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16)])
def test_row_buckets_are_powers_of_two(rows: int, expected: int) -> None:
    """Few DAGs serve all numbers of rows."""
    assert expected == row_bucket(rows)


def test_timings_and_counters_of_a_group() -> None:
    """Milliseconds per stage in outcomes; sums in microseconds per function in counters."""
    times = Times(wait_s=0.001, hooks_s=0.002, swap_s=0.003, build_s=0.004, compute_s=0.005)
    one, two = a_job(1, "a"), a_job(2, "b")
    ended = [
        Ended(one.claim, one.spec, Status.SUCCEEDED, 1, outputs={}, times=times),
        Ended.failed(two, FunctionFailed("no")),
    ]
    done, failed = settle.settlements(ended, fetched_at_s=100.5, now_s=101.0)
    assert dict(done.outcome.timings_ms) == {
        "queue": 501.0, "group": 485.0, "swap": 3.0, "build": 4.0, "compute": 5.0, "hooks": 2.0,
        "total": 1000.0,
    }  # fmt: skip
    assert tuple(done.outcome.timings_ms) == TIMINGS
    assert (done.total_us, done.outcome.group_jobs, done.rows) == (1_000_000, 1, 1)
    assert (failed.outcome.group_jobs, failed.outcome.error["code"]) == (0, "function_failed")  # type: ignore[index]  # it has one
    tally = Tally(swap_bytes=7, isolated=1, cold={"a"})
    counted = settle.counters(ended, tally, 100.5, 101.0)
    assert counted[stats("a"), "us:compute"] == 5000
    assert (counted[stats("a"), "cold"], counted[stats("b"), "groups"]) == (1, 1)
    assert (counted[COUNTERS, "group_jobs"], counted[COUNTERS, "swap_bytes"]) == (2, 7)
    assert list(settle.report("g", "w", ended, Tally()).members) == [("a", 1, 1)]


def test_claims_are_renewed_until_their_moment_or_their_loss() -> None:
    """A hung job loses its lease in the end; a lost one is not asked for again."""
    claims = Claims()
    idle: list[bool] = []
    claims.on_idle = lambda: idle.append(claims.is_idle)
    first, second = Claim(JobId("1"), 1), Claim(JobId("2"), 1)
    claims.begin("g", until_s=10)
    claims.hold("g", first, 10)
    claims.hold("g", second, 20)
    assert [first, second] == claims.to_renew(9)
    assert [second] == claims.to_renew(15)
    claims.lose([second.job, JobId("of an ended group")])
    assert (claims.is_lost(first.job), claims.is_lost(second.job)) == (False, True)
    assert claims.to_renew(15) == []
    claims.end("g")
    assert idle == [True]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidInput("x"), "invalid_input"),
        (BudgetExceeded(10, 5, "f@1"), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (GraphError("nodes", "bad"), "function_failed"),
        (WeightsError("/data/secret/path: bad"), "function_failed"),
        (FileNotFoundError("/data/secret/path"), "function_failed"),
        (IntegrityError("3 rows of 4"), "function_failed"),
        (RuntimeError("index out of range\nin /data/secret/path"), "function_failed"),
        (KeyError("/data/secret/path"), "internal"),
    ],
)
def test_errors_of_other_layers_become_the_platforms(error: Exception, expected: str) -> None:
    """With a code of their own, and without paths."""
    found = translate(error)
    assert expected == found.code
    assert "secret" not in found.detail


def test_a_member_error_is_translated_by_its_cause() -> None:
    """Memory that runs out inside a member is memory, not the graph."""
    error = MemberError(0, 0, "RuntimeError")
    error.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    assert type(translate(error)) is OutOfMemory
    assert isinstance(translate(MemberError(0, 0, "x")), FuseboxError)


def test_worker_ids_are_safe_and_never_the_same() -> None:
    """They become Redis keys and queue names."""
    one, two = worker_id("cuda:0"), worker_id("cuda:0")
    assert one != two
    assert set(one) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


def test_a_worker_stops_on_a_setting_it_cannot_use() -> None:
    """It names the variable and starts nothing."""
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "workers.worker"],
        env={"FUSEBOX_PLACES": "many", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "FUSEBOX_PLACES: expected a whole number" in done.stderr
    assert time.monotonic() - began_s < 10
