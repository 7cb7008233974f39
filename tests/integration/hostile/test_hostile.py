"""Hostile input of every class is refused clearly, in time, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import requests

from bench._platform import Platform
from tests.integration.hostile import artifact_cases, body_cases, http_cases
from tests.integration.hostile.harness import (
    MARGIN_BYTES,
    Case,
    answer,
    faults,
    note,
    request,
    resident_bytes,
)

CLIENTS = 4
INVOKE = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
CLASSES: dict[str, Sequence[Case]] = {
    "HTTP framing": http_cases.FRAMING,
    "chunked bodies": http_cases.CHUNKS,
    "lying lengths": http_cases.LENGTHS,
    "slow clients": http_cases.SLOW,
    "names and queries": http_cases.NAMES,
    "JSON bodies": body_cases.JSON,
    "msgpack bodies": body_cases.MSGPACK,
    ".npy bodies": body_cases.NPY,
    ".npz bodies": body_cases.NPZ,
    "artifact archives": artifact_cases.TARS,
    "manifests": artifact_cases.MANIFESTS,
    "graphs": artifact_cases.GRAPHS,
    "weights files": artifact_cases.WEIGHTS,
}


def workers_of(platform: Platform) -> set[str]:
    """The ids of the workers: one that died is replaced by another."""
    found = requests.get(f"{platform.url}/v1/workers", timeout=10).json()["workers"]
    return {worker["id"] for worker in found}


def invoke(platform: Platform, name: str = "echo", body: object = INVOKE) -> requests.Response:
    """Call a function as everybody does."""
    return requests.post(f"{platform.url}/v1/functions/{name}/invoke", json=body, timeout=30)


def judge(platform: Platform, case: Case) -> list[str]:
    """What is wrong with the answer to a case, and with the platform after it."""
    found = faults(case, answer(platform, case))
    health = requests.get(f"{platform.url}/healthz", timeout=10).status_code
    return found if health == 200 else [*found, f"{case.name}: /healthz answered {health}"]


@pytest.mark.parametrize("name", CLASSES)
def test_every_case_is_refused_and_the_platform_goes_on(platform: Platform, name: str) -> None:
    """The right 4xx with a problem document about the field, in time; then calls are answered,
    nothing new is deployed, and the memory is back.
    """
    assert invoke(platform).json()["outputs"] == {"x": INVOKE["inputs"]["x"]}
    workers = {
        worker["id"] for worker in requests.get(f"{platform.url}/v1/workers").json()["workers"]
    }
    before_bytes = resident_bytes(platform)
    with ThreadPoolExecutor(CLIENTS) as pool:
        wrong = [
            fault for found in pool.map(partial(judge, platform), CLASSES[name]) for fault in found
        ]
    note(name, len(CLASSES[name]), len(wrong))
    assert not wrong, "\n".join(wrong)
    assert invoke(platform).json()["outputs"] == {"x": INVOKE["inputs"]["x"]}
    listed = requests.get(f"{platform.url}/v1/functions", timeout=10).json()["functions"]
    assert [function["name"] for function in listed] == ["echo", "pick"]
    assert workers == workers_of(platform)
    assert resident_bytes(platform) - before_bytes < MARGIN_BYTES
    assert list((platform.data / "artifacts" / ".incoming").iterdir()) == []


def test_numbers_that_json_lacks_pass_in_types_that_have_them(platform: Platform) -> None:
    """NaN and infinities are values of float32 as others are; only JSON cannot say them."""
    x = np.array([[np.nan, np.inf, -np.inf, 1]], np.float32)
    body = body_cases.write_npy(x)
    types = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    found = answer(platform, Case("", request("POST", body_cases.ECHO, types, body), 200))
    assert found.status == 200
    assert x.tobytes() == found.document[-16:]
    types = {"Content-Type": "application/x-npy"}
    found = answer(platform, Case("", request("POST", body_cases.ECHO, types, body), 200))
    assert found.document["outputs"]["x"] == [[None, None, None, 1.0]]
    assert json.dumps(found.document, allow_nan=False)
