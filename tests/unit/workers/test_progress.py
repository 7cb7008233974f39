"""A postprocess that yields: what is progress, what is the result, and how much is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from contract.errors import HandlerFailed, HandlerTimeout
from contract.events import MAX_PROGRESS
from contract.job import Claim
from contract.tensors import encode_tensor
from tests.unit.workers.conftest import Bench, call
from workers.handlers.hosts import Hosts
from workers.handlers.progress import drive

Reports = list[tuple[str, int, int, Any]]
YIELDING = """
import os, sys, time
def preprocess(payload):
    return {}
def postprocess(outputs):
    what = int(outputs["y"].sum())
    if what == 0:
        return {"plain": True}
    return steps(what)
def steps(what):
    if what == 5:
        yield {"half": float("nan")}
        raise ValueError("after the first")
    if what == 6:
        yield "x" * 70_000
        yield "end"
    if what == 7:
        for k in range(2000):
            yield k
        return
    if what == 8:
        yield 1
        yield 2
        os._exit(3)
    if what == 9:
        while True:
            yield "more"
            time.sleep(0.05)
    for k in range(1, what + 1):
        yield {"step": k}
"""


def generator(*values: Any, returns: Any = None) -> Iterator[Any]:
    """Yields, then returns."""
    yield from values
    return returns


@pytest.mark.parametrize(
    ("returned", "progress", "result"),
    [
        ({"a": 1}, [], {"a": 1}),
        ([1, 2], [], [1, 2]),
        (generator(), [], None),
        (generator(1), [], 1),
        (generator(1, 2, 3), [1, 2], 3),
        (generator(1, None), [1], None),
        (generator(1, 2, returns=3), [1, 2], 3),
        (generator(returns=3), [], 3),
    ],
)
def test_each_yield_but_the_last_is_progress(returned: Any, progress: Any, result: Any) -> None:
    """And where the generator returns something, that is the result."""
    found: list[Any] = []
    assert (drive(returned, found.append), found) == (result, progress)


@pytest.fixture
def follow(bench: Bench) -> Callable[..., tuple[list[Any], Reports]]:
    """Runs postprocess for jobs 0, 1, ... of which outputs add up to these."""
    function = bench.deploy(YIELDING)
    reports: Reports = []

    def write(claim: Claim, number: int, data: bytes) -> None:
        reports.append((claim.job, claim.fence, number, orjson.loads(data)))

    def run(*wants: int, call_s: float = 30.0) -> tuple[list[Any], Reports]:
        hosts = Hosts(
            bench.folder,
            bench.limits._replace(call_s=call_s, start_s=60.0),
            0.0,
            lambda *line: bench.lines.append(line),
            write_progress=write,
        )
        calls = [
            call(k, {"y": encode_tensor(np.full((1,), want, np.float32))})._replace(fence=7 + k)
            for k, want in enumerate(wants)
        ]
        try:
            return hosts.postprocess(function, calls), reports
        finally:
            hosts.stop()

    return run


def test_progress_comes_with_its_job_and_fence(
    follow: Callable[..., tuple[list[Any], Reports]],
) -> None:
    """Numbered from one within each; the others of the batch are as they were."""
    results, reports = follow(3, 0, 2)
    assert results == [{"step": 3}, {"plain": True}, {"step": 2}]
    assert reports == [
        ("0", 7, 1, {"step": 1}),
        ("0", 7, 2, {"step": 2}),
        ("2", 9, 1, {"step": 1}),
    ]


def test_a_generator_that_raises_fails_its_job_alone(
    follow: Callable[..., tuple[list[Any], Reports]],
) -> None:
    """Also one that yields too much, too often, or ends the process."""
    (raised, large, many, died, fine), reports = follow(5, 6, 7, 8, 2)
    assert "after the first" in raised.detail
    assert "at most 65536 are taken" in large.detail
    assert "yielded more" in many.detail
    assert "exit status 3" in died.detail
    assert all(isinstance(one, HandlerFailed) for one in (raised, large, many, died))
    assert fine == {"step": 2}
    assert sum(job == "2" for job, *_ in reports) == MAX_PROGRESS
    assert [data for job, *_, data in reports if job == "3"] == [1]


def test_progress_does_not_prolong_its_time(
    follow: Callable[..., tuple[list[Any], Reports]],
) -> None:
    """A generator that never ends is ended."""
    (hangs,), reports = follow(9, call_s=2.0)
    assert isinstance(hangs, HandlerTimeout)
    assert reports
