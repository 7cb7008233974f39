"""Functions that run eagerly, on a real worker: their hosts, their slots, their faults."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.errors import HandlerFailed, HandlerTimeout
from contract.function import Function
from contract.job import Outcome, Status
from contract.store.wanted import Place, Progress
from tests.integration.workers.builders import (
    PATIENCE_S,
    Platform,
    WorkerProcess,
    floats,
    output_of,
)
from workers.handlers.keeper import descendants

SIGNS = """
import os
import time

import torch
from torch import nn


class Signs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4, bias=False)
        self.register_buffer("shift", torch.zeros(4))

    def forward(self, x):
        if float(x[0, 0]) == 13.0:
            raise ValueError("13 is no number")
        if float(x[0, 0]) == 15.0:
            self.shift += 1
        if float(x[0, 0]) == 16.0:
            time.sleep(60)
        if float(x[0, 0]) == 17.0:
            return {"y": x[:, :2]}
        rows = [self.a(row) if row.sum() > 0 else -row for row in x]
        return {"y": torch.stack(rows) + self.shift}


def load():
    print("pid", os.getpid())
    return Signs()
"""
WEIGHTS = {"a.weight": 3 * torch.eye(4), "shift": torch.ones(4)}


def expected(x: np.ndarray) -> list[list[float]]:
    """What Signs gives."""
    return [(3 * row + 1 if row.sum() > 0 else 1 - row).tolist() for row in x]


@pytest.fixture(scope="module")
def worker(platform: Platform) -> Iterator[WorkerProcess]:
    """A worker whose budget holds one large function at a time."""
    started = WorkerProcess.start(
        platform, FUSEBOX_MEMORY_BUDGET="3MB", FUSEBOX_HANDLER_TIMEOUT_S="2"
    )
    yield started
    started.stop()


@pytest.fixture(scope="module")
def signs(platform: Platform) -> Function:
    """A function that looks at each row."""
    return platform.deploy_eager("signs", SIGNS, WEIGHTS)


def rows(count: int, first: float = 1.0) -> dict[str, np.ndarray]:
    """Some rows of either sign."""
    x = np.linspace(-9, 9, count * 4, dtype=np.float32).reshape(count, 4)
    x[0, 0] = first
    return {"x": x}


def problem_of(outcome: Outcome) -> tuple[str, str]:
    """Code and detail of a failure."""
    assert outcome.error is not None, outcome
    return str(outcome.error["code"]), str(outcome.error["detail"])


def test_jobs_of_an_eager_function_are_joined_and_get_their_own_rows(
    platform: Platform, worker: WorkerProcess, signs: Function
) -> None:
    """Beside a function with a graph, with which it shares no run."""
    echo = platform.deploy("echo")
    inputs = [rows(n) for n in (1, 3, 4, 2)]
    jobs = [platform.submit(signs, x) for x in inputs]
    outcomes = platform.run(worker.id, *jobs, platform.submit(echo, floats(1, 2, 3, 4)))
    for x, outcome in zip(inputs, outcomes, strict=False):
        np.testing.assert_allclose(output_of(outcome), expected(x["x"]), rtol=1e-5)
    assert output_of(outcomes[-1]) == [[1, 2, 3, 4]]
    lines = platform.store.telemetry.read_log("signs")
    assert len([line for line in lines if line.text.startswith("pid")]) == 1


def test_a_job_that_forward_fails_on_fails_alone(
    platform: Platform, worker: WorkerProcess, signs: Function
) -> None:
    """The others of its batch get their answers."""
    bad, good = platform.submit(signs, rows(1, 13.0)), platform.submit(signs, rows(2))
    failed, fine = platform.run(worker.id, bad, good)
    said = "signs@1 forward: ValueError: 13 is no number"
    assert problem_of(failed) == (HandlerFailed.code, said)
    np.testing.assert_allclose(output_of(fine), expected(rows(2)["x"]), rtol=1e-5)


def test_a_host_that_is_killed_is_started_again(
    platform: Platform, worker: WorkerProcess, signs: Function
) -> None:
    """No job is lost with it."""
    (first,) = platform.run(worker.id, platform.submit(signs, rows(1)))
    assert first.status is Status.SUCCEEDED
    for its in hosts_of(worker, platform):
        kill(its)
    (again,) = platform.run(worker.id, platform.submit(signs, rows(3)))
    np.testing.assert_allclose(output_of(again), expected(rows(3)["x"]), rtol=1e-5)


@pytest.mark.long
def test_hooks_of_an_eager_function_run_in_a_host_of_their_own(
    platform: Platform, worker: WorkerProcess
) -> None:
    """Before and after forward."""
    hooks = """
def preprocess(payload):
    return {"x": [payload["row"]]}
def postprocess(outputs):
    return {"largest": float(outputs["y"].max())}
"""
    function = platform.deploy_eager("hooked", SIGNS + hooks, WEIGHTS)
    job = platform.submit(function, b'{"row": [1, 2, 3, 4]}', "application/json")
    (outcome,) = platform.run(worker.id, job)
    assert outcome.result == {"largest": 13.0}


@pytest.mark.long
def test_whatever_forward_does_to_its_host_the_next_job_has_one(
    platform: Platform, worker: WorkerProcess
) -> None:
    """It writes to its weights, hangs, or answers otherwise."""
    function = platform.deploy_eager("alone", SIGNS, WEIGHTS, is_batchable=False)
    outcomes = [
        platform.run(worker.id, platform.submit(function, rows(1, first)))[0]
        for first in (17.0, 15.0, 16.0, 1.0)
    ]
    assert [problem_of(outcome) for outcome in outcomes[:3]] == [
        (
            HandlerFailed.code,
            "alone@1 forward: output y: expected float32 [1, 4], got float32 [1, 2]",
        ),
        (HandlerFailed.code, "alone@1 forward: the handler was ended by SIGSEGV"),
        (HandlerTimeout.code, "alone@1 forward: the handler took longer than 2 s"),
    ]
    np.testing.assert_allclose(output_of(outcomes[3]), expected(rows(1)["x"]), rtol=1e-5)


def test_an_eager_function_is_evicted_like_any_other_and_comes_back(
    platform: Platform, worker: WorkerProcess
) -> None:
    """Its host ends with its slot; its weights were counted."""
    weights = {**WEIGHTS, "b.weight": torch.eye(700)}
    large = SIGNS.replace(
        "self.register", "self.b = nn.Linear(700, 700, bias=False); self.register"
    )
    eager = platform.deploy_eager("large", large, weights)
    graph = platform.deploy("wide", weights={"w": torch.eye(4), "filler": torch.eye(700)})
    before = hosts_of(worker, platform)
    for _ in range(2):
        (outcome,) = platform.run(worker.id, platform.submit(eager, rows(2)))
        np.testing.assert_allclose(output_of(outcome), expected(rows(2)["x"]), rtol=1e-5)
        (its,) = hosts_of(worker, platform) - before
        (outcome,) = platform.run(worker.id, platform.submit(graph, floats(1, 2, 3, 4)))
        assert output_of(outcome) == [[1, 2, 3, 4]]
        assert its not in hosts_of(worker, platform)


@pytest.mark.long
def test_a_module_that_is_not_that_of_the_weights_fails_its_jobs(
    platform: Platform, worker: WorkerProcess
) -> None:
    """And says which tensor is missing."""
    function = platform.deploy_eager("other", SIGNS, {"a.weight": torch.eye(4)})
    (outcome,) = platform.run(worker.id, platform.submit(function, rows(1)))
    code, detail = problem_of(outcome)
    assert code == HandlerFailed.code
    assert "'shift' is a parameter" in detail


def kill(keeper: int) -> None:
    """Kill a keeper, and wait until the host below it has ended with it."""
    ends = select.poll()
    (host,) = descendants(keeper)
    its_end = os.pidfd_open(host)
    ends.register(its_end, select.POLLIN)
    os.kill(keeper, signal.SIGKILL)
    assert ends.poll(PATIENCE_S * 1000)
    os.close(its_end)


def hosts_of(worker: WorkerProcess, platform: Platform) -> set[int]:
    """Process ids of the keepers of its hosts."""
    report = worker.now(platform)
    assert report is not None
    tasks = Path(f"/proc/{report.pid}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def test_an_eager_function_is_loaded_and_unloaded_by_name(
    platform: Platform, worker: WorkerProcess
) -> None:
    """Its host runs before its first job, and ends when it is unloaded."""
    function = platform.deploy_eager("wanted", SIGNS, WEIGHTS)
    key = str(function.ref)
    for place in (Place.LOADED, Place.UNLOADED):
        number = platform.store.wanted.want(function.ref, place).number
        give_up_at_s = time.monotonic() + PATIENCE_S
        while True:
            report = worker.now(platform)
            assert report is not None
            made = report.wanted.get(key)
            if made is not None and (made.number, made.progress) == (number, Progress.DONE):
                break
            assert time.monotonic() < give_up_at_s, made
            time.sleep(0.02)  # another process: there is nothing to wait on but its reports
        assert (key in report.functions) == (place is Place.LOADED)
