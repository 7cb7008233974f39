"""Groups on a real worker process: what runs together, and what fails alone."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from contract.job import Outcome, Status
from contract.store.coming import tell
from contract.store.queue import GroupReport
from fusion.ir import Node, Ref
from tests.integration.workers.builders import (
    PATIENCE_S,
    Platform,
    WorkerProcess,
    floats,
    linear_graph,
    output_of,
    picking_graph,
)

TABLE = {"w": torch.arange(32.0).reshape(8, 4)}
HOOKS = """
import numpy as np
def preprocess(payload):
    print("got", payload)
    return {"x": np.array([payload["x"]], np.float32)}
def postprocess(outputs):
    return {"largest": outputs["y"].max()}
"""


def rows(*values: int) -> dict[str, np.ndarray]:
    """Indices into the table."""
    return {"x": np.array(values, np.int64)}


def code_of(outcome: Outcome) -> str:
    """The error's code."""
    assert outcome.error is not None, outcome
    return str(outcome.error["code"])


def test_jobs_of_two_functions_run_as_one_group(platform: Platform, worker: WorkerProcess) -> None:
    """Each job gets its own rows of its own function, and both know the group."""
    echo = platform.deploy("echo")
    double = platform.deploy("double", weights={"w": 2 * torch.eye(4)})
    jobs = [platform.submit(f, floats(1, 2, 3, n)) for f in (echo, double) for n in range(3)]
    outcomes = platform.run(worker.id, *jobs)
    expected = [[[1, 2, 3, n]] for n in range(3)] + [[[2, 4, 6, 2 * n]] for n in range(3)]
    assert expected == [output_of(outcome) for outcome in outcomes]
    assert {(6, 2)} == {(o.group_jobs, o.group_functions) for o in outcomes}
    [ran] = {platform.store.jobs.get(job).trail.ran for job in jobs}
    group = GroupReport.decode(ran)
    assert sorted(group.members) == [("double", 1, 3), ("echo", 1, 3)]
    assert (group.worker, group.jobs, len(group.strategies)) == (worker.id, 6, 1)
    assert 0 < group.taken_at_s <= group.began_at_s < group.ended_at_s <= time.time()
    [last] = platform.store.scheduling.last_groups(1)
    assert last == group


def test_timings_cover_every_stage(platform: Platform, worker: WorkerProcess) -> None:
    """Stages are there, none is negative, and together they are the total."""
    function = platform.deploy("timed")
    (outcome,) = platform.run(worker.id, platform.submit(function, floats(0, 0, 0, 0)))
    timings = dict(outcome.timings_ms)
    total_ms = timings.pop("total")
    assert set(timings) == {"queue", "group", "swap", "build", "compute", "hooks"}
    assert min(timings.values()) >= 0
    assert sum(timings.values()) == pytest.approx(total_ms, abs=0.01)


def test_hooks_run_and_what_they_print_is_logged(platform: Platform, worker: WorkerProcess) -> None:
    """A JSON body in, the result of postprocess out."""
    function = platform.deploy("hooked", handler=HOOKS)
    job = platform.submit(function, b'{"x": [1, 5, 3, 2]}', "application/json")
    (outcome,) = platform.run(worker.id, job)
    assert outcome.result == {"largest": 5.0}
    line = next(x for x in platform.store.telemetry.read_log("hooked") if "got" in x.text)
    assert (job, 1, "info") == (line.job, line.version, line.level)


def test_a_job_that_the_graph_fails_on_fails_alone(
    platform: Platform, worker: WorkerProcess
) -> None:
    """An index outside the table; the other jobs of the batch and of the group succeed."""
    pick = platform.deploy("pick", picking_graph(), TABLE)
    echo = platform.deploy("beside")
    good, bad = platform.submit(pick, rows(1)), platform.submit(pick, rows(99))
    other, also = platform.submit(echo, floats(1, 2, 3, 4)), platform.submit(pick, rows(7))
    outcomes = platform.run(worker.id, good, bad, other, also)
    assert [outcome.status for outcome in outcomes] == [
        Status.SUCCEEDED,
        Status.FAILED,
        Status.SUCCEEDED,
        Status.SUCCEEDED,
    ]
    assert code_of(outcomes[1]) == "function_failed"
    assert output_of(outcomes[3]) == [[28, 29, 30, 31]]
    assert platform.store.telemetry.counters()["isolated"] >= 1


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"x": np.zeros((9, 4), np.float32)}, "inputs.x"),
        ({"x": np.zeros((1, 5), np.float32)}, "inputs.x"),
        ({"x": np.zeros((1, 4), np.float64)}, "inputs.x"),
        ({"z": np.zeros((1, 4), np.float32)}, "inputs.x"),
    ],
)
def test_a_wrong_input_is_refused_with_its_field(
    platform: Platform, worker: WorkerProcess, inputs: dict[str, np.ndarray], field: str
) -> None:
    """More rows than max_batch, another shape, dtype or name; the job beside it succeeds."""
    function = platform.deploy("strict")
    good = platform.submit(function, floats(1, 2, 3, 4))
    outcomes = platform.run(worker.id, platform.submit(function, inputs), good)
    assert code_of(outcomes[0]) == "invalid_input"
    assert outcomes[0].error is not None
    assert field == outcomes[0].error["field"]
    assert outcomes[1].status is Status.SUCCEEDED


def test_static_graphs_run_any_number_of_independent_rows(
    platform: Platform, worker: WorkerProcess
) -> None:
    """Joined, filled up to the next bucket, beside another function, and each gets its own rows."""
    static = platform.deploy(
        "static", row_buckets=(2, 8), max_batch=8, weights={"w": 3 * torch.eye(4)}
    )
    echo = platform.deploy("dynamic")
    inputs = [
        {"x": np.arange(4.0 * n, dtype=np.float32).reshape(n, 4) + n} for n in (1, 2, 3, 8, 5)
    ]
    jobs = [platform.submit(static, x) for x in inputs]
    outcomes = platform.run(worker.id, *jobs, platform.submit(echo, floats(1, 2, 3, 4)))
    for x, outcome in zip(inputs, outcomes, strict=False):
        assert output_of(outcome) == (3 * x["x"]).tolist()
    assert output_of(outcomes[-1]) == [[1, 2, 3, 4]]


def test_more_rows_than_max_batch_run_in_several_batches(
    platform: Platform, worker: WorkerProcess
) -> None:
    """Twenty jobs of a function that takes eight rows at once."""
    function = platform.deploy("many")
    jobs = [platform.submit(function, floats(n, 0, 0, 0)) for n in range(20)]
    outcomes = platform.run(worker.id, *jobs)
    assert [[[float(n), 0, 0, 0]] for n in range(20)] == [output_of(o) for o in outcomes]


@pytest.mark.parametrize("damage", ["graph.json", "weights.safetensors"])
def test_a_broken_artifact_fails_its_own_function_alone(
    platform: Platform, worker: WorkerProcess, damage: str
) -> None:
    """Bytes changed on disk after deployment; nothing of the path leaks."""
    broken, sound = platform.deploy("broken"), platform.deploy("sound")
    path = platform.settings.artifacts / broken.digest / damage
    data = bytearray(path.read_bytes())
    data[-3] ^= 0xFF
    path.write_bytes(data)
    bad, good = (platform.submit(f, floats(1, 2, 3, 4)) for f in (broken, sound))
    outcomes = platform.run(worker.id, bad, good)
    assert code_of(outcomes[0]) == "function_failed"
    assert str(platform.settings.artifacts) not in str(outcomes[0].error)
    assert outcomes[1].status is Status.SUCCEEDED


def test_a_function_larger_than_the_budget_is_told_so(
    platform: Platform, worker: WorkerProcess
) -> None:
    """Out of memory with the bytes that are needed and the budget; the other job succeeds."""
    width = 4500  # 81 MB of float32, the budget is 64 MB
    # of a product that is not with the transpose, no block could hold a part
    product = Node("mm", (Ref("input", 0), Ref("weight", 0)))
    graph = replace(linear_graph(width), nodes=(product,))
    huge = platform.deploy("huge", graph, {"w": torch.zeros(width, width)})
    sound = platform.deploy("small")
    bad = platform.submit(huge, {"x": np.zeros((1, width), np.float32)})
    good = platform.submit(sound, floats(1, 2, 3, 4))
    outcomes = platform.run(worker.id, bad, good)
    assert code_of(outcomes[0]) == "out_of_memory"
    assert outcomes[0].error is not None
    assert outcomes[0].error["needed_bytes"] > outcomes[0].error["budget_bytes"]
    assert outcomes[1].status is Status.SUCCEEDED


def test_a_group_that_does_not_fit_at_once_runs_in_parts(
    platform: Platform, worker: WorkerProcess
) -> None:
    """Four functions of 25 MB under a budget of 64 MB."""
    width = 2500
    graph, weights = linear_graph(width), torch.eye(width)
    functions = [platform.deploy(f"part-{n}", graph, {"w": n * weights}) for n in range(4)]
    one = {"x": np.ones((1, width), np.float32)}
    outcomes = platform.run(worker.id, *[platform.submit(f, one) for f in functions])
    assert [output_of(outcome)[0][0] for outcome in outcomes] == [0.0, 1.0, 2.0, 3.0]


def test_a_job_past_its_deadline_is_not_run(platform: Platform, worker: WorkerProcess) -> None:
    """It expires at launch, and is counted there."""
    function = platform.deploy("late")
    before = platform.store.telemetry.counters().get("expired:launch", 0)
    late = platform.submit(function, floats(0, 0, 0, 0), timeout_s=-1)
    (outcome,) = platform.run(worker.id, late)
    assert (outcome.status, code_of(outcome)) == (Status.EXPIRED, "deadline_exceeded")
    assert before + 1 == platform.store.telemetry.counters()["expired:launch"]


def test_not_a_number_comes_through(platform: Platform, worker: WorkerProcess) -> None:
    """NaN in is NaN out: tensors are bytes."""
    function = platform.deploy("nan")
    (outcome,) = platform.run(worker.id, platform.submit(function, floats(math.nan, 0, 0, 0)))
    assert math.isnan(output_of(outcome)[0][0])


def test_a_cancelled_job_is_left_out(platform: Platform, worker: WorkerProcess) -> None:
    """Its claim is void by the time the worker fetches; the others of the group run."""
    function = platform.deploy("given-up")
    gone, kept = (platform.submit(function, floats(1, 2, 3, 4)) for _ in range(2))
    group = platform.claim(worker.id, [gone, kept])
    platform.store.jobs.cancel(gone)
    platform.send(worker.id, group, [gone, kept])
    assert platform.wait(gone).status is Status.CANCELLED
    assert platform.wait(kept).status is Status.SUCCEEDED


def test_every_group_gives_its_place_back(platform: Platform, worker: WorkerProcess) -> None:
    """Also one of which every job failed, or none was left."""
    function = platform.deploy("placed")
    tail = platform.store.queue.signal_tail()
    platform.dispatch(worker.id, [platform.submit(function, {"x": np.zeros((1, 1), np.int64)})])
    gone = platform.submit(function, floats(1, 2, 3, 4))
    group = platform.claim(worker.id, [gone])
    platform.store.jobs.cancel(gone)
    platform.send(worker.id, group, [gone])
    platform.wait_for_groups(tail, 2)
    assert platform.store.queue.groups() == {}
    assert platform.store.telemetry.conservation().drift == 0


def test_a_worker_prefetches_what_it_is_told_of(platform: Platform, worker: WorkerProcess) -> None:
    """Its first call has nothing to swap; both are reported."""
    width = 1000
    function = platform.deploy("foreseen", linear_graph(width), {"w": 2 * torch.eye(width)})
    before = worker.now(platform)
    assert before is not None
    tell(platform.store.server, worker.id, [function.ref])
    give_up_at_s = time.monotonic() + PATIENCE_S
    while (now := worker.now(platform)) is None or now.prefetches == before.prefetches:
        assert time.monotonic() < give_up_at_s, now
        time.sleep(0.05)  # another process: there is nothing to wait on but its reports
    assert str(function.ref) in now.functions
    job = platform.submit(function, {"x": np.ones((1, width), np.float32)})
    (outcome,) = platform.run(worker.id, job)
    assert (output_of(outcome)[0][0], outcome.timings_ms["swap"]) == (2.0, 0.0)
    stats = platform.store.telemetry.stats(["foreseen"])["foreseen"]
    assert (stats["groups"], stats.get("cold", 0)) == (1, 0)
    while (now := worker.now(platform)) is None or now.prefetch_hits == before.prefetch_hits:
        assert time.monotonic() < give_up_at_s, now
        time.sleep(0.05)  # as above


def test_weights_come_in_while_hooks_run(platform: Platform, worker: WorkerProcess) -> None:
    """A cold function whose preprocess takes longer than the swap has nothing to swap after it."""
    waits = """
import time
def preprocess(payload):
    time.sleep(payload["s"])
    return {"x": [[1.0] * 4]}
"""
    function = platform.deploy("hidden", handler=waits)
    job = platform.submit(function, b'{"s": 1.0}', "application/json")
    (outcome,) = platform.run(worker.id, job)
    assert output_of(outcome) == [[1.0] * 4]
    assert outcome.timings_ms["hooks"] >= 1000
    assert outcome.timings_ms["swap"] == 0.0


SLOW = """
import time
def preprocess(payload):
    time.sleep(payload.get("before", 0))
    return {"x": [[payload["n"], 0, 0, 0]]}
def postprocess(outputs):
    n = float(outputs["y"][0, 0])
    time.sleep(n / 10 if n >= 10 else 0)
    return n
"""


@pytest.mark.parametrize(
    ("body", "result"), [(b'{"before": 6, "n": 1}', 1.0), (b'{"n": 60}', 60.0)]
)
def test_a_group_does_not_wait_for_slow_hooks(
    platform: Platform, worker: WorkerProcess, body: bytes, result: float
) -> None:
    """Before or after the run: the other functions' jobs are answered, then the slow one's."""
    slow = platform.deploy("slow", handler=SLOW)
    echo = platform.deploy("echo-beside")
    jobs = [
        platform.submit(slow, body, "application/json"),
        platform.submit(echo, floats(1, 2, 3, 4)),
    ]
    tail = platform.store.queue.signal_tail()
    platform.dispatch(worker.id, jobs)
    assert output_of(platform.wait(jobs[1])) == [[1, 2, 3, 4]]
    assert jobs[0] not in platform.answers
    platform.wait_for_groups(tail, 1)
    # a place is free: the next group runs while the slow one goes on
    (quick,) = platform.run(worker.id, platform.submit(echo, floats(5, 6, 7, 8)))
    assert output_of(quick) == [[5, 6, 7, 8]]
    assert jobs[0] not in platform.answers
    assert platform.wait(jobs[0]).result == result
    assert platform.store.telemetry.conservation().drift == 0
