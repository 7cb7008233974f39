"""Records for tests of the store."""

from __future__ import annotations

import time

from contract.function import Function, Manifest
from contract.job import TENSORS, JobSpec, Submission, new_job_id
from contract.store import Store
from contract.tensors import TensorSpec

LEADER = "the-leader"
WAITER = "gateway-1"


def a_manifest(**changes: object) -> Manifest:
    """The manifest of an echo function of four floats."""
    spec = TensorSpec("x", "float32", (None, 4))
    values: dict[str, object] = {
        "architecture": "a" * 64,
        "inputs": (spec,),
        "outputs": (spec._replace(name="output"),),
        "parameters": 0,
        "weight_bytes": 0,
        "activation_bytes": {1: 16, 32: 512},
        "operators_exported": 0,
        "operators": 0,
        "max_batch": 32,
        "is_batchable": True,
        "has_preprocess": False,
        "has_postprocess": False,
        "slo_ms": None,
        "timeout_ms": 30_000.0,
        "keep_alive_s": None,
    }
    return Manifest(**values | changes)  # type: ignore[arg-type]  # built by name


def deploy(store: Store, name: str = "echo") -> Function:
    """A function in the registry."""
    return store.functions.publish(name, "d" * 64, a_manifest())


def a_submission(
    function: Function, timeout_s: float = 30.0, is_latest: bool = True, waiter: str = WAITER
) -> Submission:
    """A job of one row."""
    now_s = time.time()
    deadline_s = now_s + timeout_s
    spec = JobSpec(
        new_job_id(), function.name, function.version, 1, now_s, deadline_s, deadline_s, TENSORS
    )
    return Submission(spec, b"payload", is_latest, waiter)


def submit(store: Store, function: Function, count: int = 1) -> list[Submission]:
    """Accepted jobs."""
    submissions = [a_submission(function) for _ in range(count)]
    assert store.jobs.submit(submissions, 100, 100) == [None] * count
    return submissions


def lead(store: Store) -> None:
    """Become the active scheduler."""
    assert store.workers.lead("scheduler", LEADER, 60)
