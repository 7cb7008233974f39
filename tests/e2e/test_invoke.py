"""Functions answer over HTTP, at once and as jobs, with the same values as PyTorch."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import msgpack
import numpy as np
import pytest
import requests
import torch

from bench._platform import Platform
from contract.job import TIMINGS
from tests.e2e.functions import linear, linear2

X = np.array([[1.0, -2.0, 3.0, 0.5], [0.0, 1.0, 0.0, -1.0]], np.float32)  # [rows, 4]


def eager(module: object, x: np.ndarray = X) -> np.ndarray:
    """What PyTorch itself answers."""
    with torch.inference_mode():
        found: np.ndarray = module.load().eval()(torch.from_numpy(x)).numpy()  # type: ignore[attr-defined]
    return found


def invoke(platform: Platform, name: str, **request: object) -> requests.Response:
    """POST to a function."""
    url = f"{platform.url}/v1/functions/{name}/invoke"
    return requests.post(url, timeout=60, **request)  # type: ignore[arg-type]  # requests' own


def test_json_in_json_out_equals_eager(platform: Platform) -> None:
    """With the job's id, its function and version, and where the time went."""
    answer = invoke(platform, "linear", json={"inputs": {"input": X.tolist()}})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    np.testing.assert_allclose(body["outputs"]["output"], eager(linear), rtol=1e-5, atol=1e-6)
    assert (body["function"], body["version"]) == ("linear", 1)
    assert set(body["timings_ms"]) == set(TIMINGS)
    assert "compute" in answer.headers["Server-Timing"]


def test_msgpack_and_npy_bodies_equal_eager(platform: Platform) -> None:
    """The answer comes in the type that Accept asks for."""
    packed = {"dtype": "float32", "shape": [2, 4], "data": X.tobytes()}
    answer = invoke(
        platform,
        "linear",
        data=msgpack.packb({"inputs": {"input": packed}}),
        headers={"Content-Type": "application/msgpack", "Accept": "application/msgpack"},
    )
    output = msgpack.unpackb(answer.content)["outputs"]["output"]
    found = np.frombuffer(output["data"], output["dtype"]).reshape(output["shape"])
    np.testing.assert_allclose(found, eager(linear), rtol=1e-5, atol=1e-6)
    file = io.BytesIO()
    np.save(file, X)
    types = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    answer = invoke(platform, "linear", data=file.getvalue(), headers=types)
    found = np.load(io.BytesIO(answer.content))
    np.testing.assert_allclose(found, eager(linear), rtol=1e-5, atol=1e-6)


def test_different_functions_called_at_once_share_groups_and_answer_right(
    platform: Platform,
) -> None:
    """Sixteen callers of two functions."""

    def call(number: int) -> tuple[int, dict[str, object]]:
        x = X + number
        name = ("linear", "linear2")[number % 2]
        return number, invoke(platform, name, json={"inputs": {"input": x.tolist()}}).json()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(call, range(64)))
    for number, body in answers:
        want = eager((linear, linear2)[number % 2], X + number)
        np.testing.assert_allclose(body["outputs"]["output"], want, rtol=1e-4, atol=1e-5)  # type: ignore[index]
    assert max(body["group"]["functions"] for _, body in answers) == 2  # type: ignore[index]


def test_an_asynchronous_call_is_polled(platform: Platform) -> None:
    """202 with a Location; the long poll answers when the job settles."""
    accepted = invoke(
        platform,
        "linear",
        json={"inputs": {"input": X.tolist()}},
        headers={"Prefer": "respond-async"},
    )
    assert accepted.status_code == 202
    assert accepted.headers["Preference-Applied"] == "respond-async"
    job = requests.get(f"{platform.url}{accepted.headers['Location']}?wait=30", timeout=60).json()
    assert job["status"] == "succeeded"
    np.testing.assert_allclose(job["outputs"]["output"], eager(linear), rtol=1e-5, atol=1e-6)
    assert job["attempts"] == 1
    gone = requests.delete(f"{platform.url}/v1/jobs/{job['job']}", timeout=10)
    assert (gone.status_code, gone.json()["code"]) == (409, "job_settled")


def test_hooks_see_the_payload_and_the_outputs(platform: Platform) -> None:
    """The whole body is the payload; the answer has a result."""
    body = invoke(platform, "hooked", json={"numbers": [1, 2, 3], "do": "print"}).json()
    assert body["result"] == {"doubled": [2.0, 4.0, 6.0]}
    assert body["timings_ms"]["hooks"] > 0
    printed = platform.fusebox("logs", "hooked").stdout
    assert "seen in the log" in printed
    assert "seen as an error" in printed


def test_a_hook_that_raises_fails_its_job_and_tells_its_author(platform: Platform) -> None:
    """A short reason to the caller, the traceback to the log."""
    answer = invoke(platform, "hooked", json={"do": "raise", "numbers": []})
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["code"] == "handler_failed"
    assert "the payload asked for it" in problem["detail"]
    assert "Traceback" not in answer.text
    printed = platform.fusebox("logs", "hooked").stdout
    assert 'raise ValueError("the payload asked for it")' in printed


def test_a_bad_job_fails_alone(platform: Platform) -> None:
    """Its neighbours in the same moment get their answers."""
    bodies = [
        {"do": what, "numbers": [n, n, n]} for n, what in enumerate(["", "raise", "wrong", ""] * 4)
    ]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda body: invoke(platform, "hooked", json=body), bodies))
    for body, answer in zip(bodies, answers, strict=True):
        if body["do"]:
            assert answer.status_code in (422, 500), answer.text
        else:
            assert answer.json()["result"] == {"doubled": [2.0 * n for n in body["numbers"]]}


def test_a_hook_that_kills_its_process_fails_its_job_only(platform: Platform) -> None:
    """The host is started again for the next call."""
    assert invoke(platform, "hooked", json={"do": "exit"}).json()["code"] == "handler_failed"
    body = invoke(platform, "hooked", json={"numbers": [1, 1, 1]}).json()
    assert body["result"] == {"doubled": [2.0, 2.0, 2.0]}


TYPED = "Content-Type"


@pytest.mark.parametrize(
    ("name", "request_", "status", "code"),
    [
        ("nobody", {"json": {"inputs": {}}}, 404, "unknown_function"),
        ("linear@9", {"json": {"inputs": {}}}, 404, "unknown_function"),
        ("linear", {"data": b"{", "headers": {TYPED: "application/json"}}, 400, "malformed_body"),
        ("linear", {"data": b"x", "headers": {TYPED: "text/csv"}}, 415, "unsupported_media_type"),
        ("linear", {"json": {"inputs": {"input": [[1, 2, 3]]}}}, 422, "invalid_input"),
        ("linear", {"json": {"inputs": {"x": [[1, 2, 3, 4]]}}}, 422, "invalid_input"),
        ("linear", {"json": {"inputs": {"input": [[0] * 4] * 9}}}, 422, "invalid_input"),
        (
            "linear",
            {"json": {"inputs": {"input": [[0] * 4]}}, "headers": {"Accept": "image/png"}},
            406,
            "not_acceptable",
        ),
    ],
)
def test_bad_calls_get_a_problem_with_a_stable_code(
    platform: Platform, name: str, request_: dict[str, object], status: int, code: str
) -> None:
    """RFC 9457."""
    answer = invoke(platform, name, **request_)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_jobs_are_conserved(platform: Platform) -> None:
    """Accepted is queued plus running plus settled."""
    metrics = requests.get(f"{platform.url}/metrics", timeout=10).text
    assert "\nfusebox_job_conservation_drift 0.0\n" in metrics
