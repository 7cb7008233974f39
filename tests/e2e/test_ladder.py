"""The last rungs of export on a platform: static graphs by row bucket, and eager functions."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests

from bench._platform import Platform
from tests.e2e.conftest import FUNCTIONS
from tests.e2e.functions import branching, evens, linear
from tests.e2e.test_invoke import eager, invoke

# the first of these may start the platform and deploys two functions, where much else may run
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def deployed(platform: Platform) -> dict[str, str]:
    """What deploying them said, by name."""
    said = {}
    for name in ("branching", "evens"):
        path = str(FUNCTIONS / f"{name}.py")
        done = platform.fusebox("deploy", path, "--name", name, "--max-batch", "8")
        assert done.returncode == 0, done.stderr
        said[name] = done.stdout + done.stderr
    return said


def x_of(rows: int, seed: int) -> np.ndarray:
    """Rows of either sign, [rows, 4] float32."""
    return np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)


def test_deploy_says_how_they_run_and_why(deployed: dict[str, str]) -> None:
    """With the line, what it costs and what to do."""
    assert re.search(r"branching\.py:1[34]: cannot export forward", deployed["branching"])
    for text in ("runs eagerly", "torch.where", "no fused DAG", "ms with 1 row"):
        assert text in deployed["branching"]
    assert "exported for batches of 2, 4, 8 alone" in deployed["evens"]


def test_they_answer_beside_fused_functions_as_pytorch_does(
    platform: Platform, deployed: dict[str, str]
) -> None:
    """Any number of rows, of many callers at once."""
    modules = {"branching": branching, "evens": evens, "linear": linear}
    inputs = {"branching": "x", "evens": "x", "linear": "input"}

    def call(number: int) -> tuple[str, np.ndarray, requests.Response]:
        name, x = [*modules][number % 3], x_of(1 + number % 5, number)
        return name, x, invoke(platform, name, json={"inputs": {inputs[name]: x.tolist()}})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, range(36)))
    for name, x, answer in answers:
        assert answer.status_code == 200, answer.text
        # evens takes no odd number of rows by itself
        want = eager(modules[name], np.concatenate([x, x]))[: len(x)]
        np.testing.assert_allclose(answer.json()["outputs"]["output"], want, rtol=1e-4, atol=1e-5)
        if name == "branching":
            assert answer.json()["group"]["functions"] == 1


def test_what_is_shown_of_them_says_how_they_run(
    platform: Platform, deployed: dict[str, str]
) -> None:
    """describe, the record, and the answer of dag."""
    record = requests.get(f"{platform.url}/v1/functions/branching", timeout=10).json()
    assert (record["is_eager"], record["row_buckets"]) == (True, [])
    assert "eagerly, in a process of its own" in platform.fusebox("describe", "branching").stdout
    described = platform.fusebox("describe", "evens").stdout
    assert "graphs of 2, 4, 8" in described
    drawn = platform.fusebox("dag", "branching", "linear")
    assert drawn.returncode == 3
    assert "branching@1 runs eagerly: it has no graph and is in no fused DAG" in drawn.stderr
