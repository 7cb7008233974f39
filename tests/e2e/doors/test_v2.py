"""Clients of the V2 protocol, as they are published, against a real platform."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor

from bench._platform import Platform, running_platform
from contract.tensors import Tensor

FUNCTIONS = Path(__file__).parents[1] / "functions"
PATIENCE_S = 20.0
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A platform of this module's own: weights are loaded and evicted here."""
    with running_platform(FUSEBOX_HEARTBEAT_S="0.2") as running:
        for name in ("linear", "hooked"):
            running.deploy(str(FUNCTIONS / f"{name}.py"), "--name", name, "--max-batch", "64")
        running.wait_ready()
        yield running


@pytest.fixture
def client(platform: Platform) -> Iterator[triton.InferenceServerClient]:
    """Triton's own client."""
    with triton.InferenceServerClient(platform.url.removeprefix("http://"), concurrency=8) as found:
        yield found


@pytest.fixture(scope="module")
def expected(platform: Platform) -> Tensor:
    """What the platform's own API answers for X."""
    url = f"{platform.url}/v1/functions/linear/invoke"
    answer = requests.post(url, json={"inputs": {"input": X.tolist()}}, timeout=PATIENCE_S)
    return np.array(answer.json()["outputs"]["output"], dtype=np.float32)


def given(kind: Any = triton.InferInput, is_binary: bool = True, x: Tensor = X) -> Any:
    """The input of `linear`."""
    tensor = kind("input", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, binary_data=is_binary)
    return tensor


def wanted(is_binary: bool) -> list[triton.InferRequestedOutput]:
    """Its output."""
    return [triton.InferRequestedOutput("output", binary_data=is_binary)]


@pytest.mark.parametrize("sends_binary", [True, False])
@pytest.mark.parametrize("asks", [None, True, False])
def test_tensors_go_both_ways(
    client: triton.InferenceServerClient, expected: Tensor, sends_binary: bool, asks: bool | None
) -> None:
    """JSON and binary in any pair; without outputs the client wants all in binary."""
    outputs = None if asks is None else wanted(asks)
    result = client.infer(
        "linear", [given(is_binary=sends_binary)], outputs=outputs, request_id="my id"
    )
    np.testing.assert_allclose(result.as_numpy("output"), expected, rtol=1e-6)
    assert result.get_response()["id"] == "my id"
    assert result.get_response()["model_version"] == "1"
    is_binary = "parameters" in result.get_output("output")
    assert is_binary == (asks is not False)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_are_compressed(
    client: triton.InferenceServerClient, expected: Tensor, encoding: str
) -> None:
    """Both ways, of a batch that is worth it."""
    result = client.infer(
        "linear",
        [given(x=np.tile(X, (32, 1)))],
        request_compression_algorithm=encoding,
        response_compression_algorithm=encoding,
    )
    np.testing.assert_allclose(result.as_numpy("output")[-2:], expected, rtol=1e-5)


def test_calls_that_are_not_waited_for_are_answered(
    client: triton.InferenceServerClient, expected: Tensor
) -> None:
    """More of them than there are connections."""
    calls = [client.async_infer("linear", [given()]) for _ in range(32)]
    for call in calls:
        np.testing.assert_allclose(call.get_result().as_numpy("output"), expected, rtol=1e-5)


def unsettled(platform: Platform) -> int:
    """Jobs that were accepted and have no outcome yet."""
    jobs = requests.get(f"{platform.url}/v1/stats", timeout=PATIENCE_S).json()["jobs"]
    return int(jobs["queued"] + jobs["running"])


@contextmanager
def stopped_worker(platform: Platform) -> Iterator[None]:
    """The worker does nothing inside; shorter than its heartbeats may fail to come."""
    (worker,) = requests.get(f"{platform.url}/v1/workers", timeout=PATIENCE_S).json()["workers"]
    os.kill(worker["pid"], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker["pid"], signal.SIGCONT)


def test_statistics_show_that_calls_ran_together(
    client: triton.InferenceServerClient, platform: Platform, expected: Tensor
) -> None:
    """More rows than executions, of calls that had to wait for the same worker."""
    address = platform.url.removeprefix("http://")
    before = client.get_inference_statistics("linear")["model_stats"][0]

    def call(_: int) -> Tensor:
        with triton.InferenceServerClient(address) as own:
            found: Tensor = own.infer("linear", [given()]).as_numpy("output")
            return found

    with ThreadPoolExecutor(16) as pool:
        with stopped_worker(platform):
            calls = [pool.submit(call, number) for number in range(16)]
            give_up_at_s = time.monotonic() + PATIENCE_S
            while unsettled(platform) < 16:
                assert time.monotonic() < give_up_at_s
        for each in calls:
            np.testing.assert_allclose(each.result(PATIENCE_S), expected, rtol=1e-5)
    after = client.get_inference_statistics("linear", "1")["model_stats"][0]
    rows, executions = (
        after[field] - before[field] for field in ("inference_count", "execution_count")
    )
    assert rows == 32
    assert executions < 16
    assert after["inference_stats"]["compute_infer"]["ns"] > 0
    assert after["last_inference"] > 0
    assert [each["type"] for each in after["memory_usage"]] == ["CPU"]


def test_the_client_for_asyncio_is_served(platform: Platform, expected: Tensor) -> None:
    """Which asks for compression by itself."""

    async def call() -> Any:
        address = platform.url.removeprefix("http://")
        async with triton_aio.InferenceServerClient(address) as aio:
            assert await aio.is_server_live()
            assert await aio.is_model_ready("linear")
            batch = given(x=np.tile(X, (32, 1)))
            return await asyncio.gather(*(aio.infer("linear", [batch]) for _ in range(8)))

    for result in asyncio.run(call()):
        np.testing.assert_allclose(result.as_numpy("output")[:2], expected, rtol=1e-5)


def test_server_and_models_are_described(client: triton.InferenceServerClient) -> None:
    """What a client asks before its first call."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert client.is_model_ready("linear", "1")
    assert not client.is_model_ready("linear", "2")
    assert not client.is_model_ready("nope")
    assert "model_repository" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("linear", "1")
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
    assert client.get_model_config("linear")["max_batch_size"] == 64


def test_priority_and_timeout_are_taken(
    client: triton.InferenceServerClient, expected: Tensor
) -> None:
    """With parameters of a client's own beside them."""
    result = client.infer(
        "linear", [given()], priority=1, timeout=5_000_000, parameters={"mine": "x", "n": 1}
    )
    np.testing.assert_allclose(result.as_numpy("output"), expected, rtol=1e-6)
    with pytest.raises(InferenceServerException) as late:
        client.infer("linear", [given()], timeout=1)
    assert late.value.status() in ("503", "504")


@pytest.mark.parametrize(
    ("name", "datatype", "said"),
    [
        ("X", "FP32", "unexpected inference input 'X' for model 'linear'"),
        ("input", "INT32", "inference input 'input' data-type is 'INT32', but model 'linear'"),
    ],
)
def test_errors_reach_the_client_in_words(
    client: triton.InferenceServerClient, name: str, datatype: str, said: str
) -> None:
    """Status and text."""
    tensor = triton.InferInput(name, [2, 4], datatype)
    tensor.set_data_from_numpy(X.astype(np.int32 if datatype == "INT32" else np.float32))
    with pytest.raises(InferenceServerException, match=said) as refused:
        client.infer("linear", [tensor])
    assert refused.value.status() == "400"
    with pytest.raises(InferenceServerException, match="unknown model: 'nope' is not found"):
        client.infer("nope", [given()])
    with pytest.raises(InferenceServerException, match="tracing is not supported"):
        client.get_trace_settings()
    with pytest.raises(InferenceServerException, match="log settings are not supported"):
        client.get_log_settings()


def test_functions_with_hooks_take_and_return_json(client: triton.InferenceServerClient) -> None:
    """One element of BYTES each, in binary and in JSON."""
    payload = np.array([json.dumps({"numbers": [1, 2, 3]})], dtype=np.object_)
    for is_binary in (True, False):
        tensor = triton.InferInput("payload", [1], "BYTES")
        tensor.set_data_from_numpy(payload, binary_data=is_binary)
        outputs = [triton.InferRequestedOutput("result", binary_data=is_binary)]
        result = client.infer("hooked", [tensor], outputs=outputs).as_numpy("result")
        assert json.loads(result[0]) == {"doubled": [2.0, 4.0, 6.0]}
    assert deserialize_bytes_tensor(b"\1\0\0\0a")[0] == b"a"


def resident(platform: Platform) -> set[str]:
    """What the worker has in slots, by its last report."""
    workers = requests.get(f"{platform.url}/v1/workers", timeout=PATIENCE_S).json()["workers"]
    return {ref for worker in workers for ref in worker["functions"]}


def test_models_are_loaded_and_unloaded(
    client: triton.InferenceServerClient, platform: Platform, expected: Tensor
) -> None:
    """In memory when load returns, out of it when unload does, ready throughout."""
    client.load_model("linear")
    assert "linear@1" in resident(platform)
    client.unload_model("linear")
    assert "linear@1" not in resident(platform)
    index = client.get_model_repository_index()
    assert {"name": "linear", "version": "1", "state": "READY"} in index
    assert client.is_model_ready("linear")
    result = client.infer("linear", [given()])
    np.testing.assert_allclose(result.as_numpy("output"), expected, rtol=1e-6)
    client.unload_model("nope")
    with pytest.raises(InferenceServerException, match="failed to load 'nope'"):
        client.load_model("nope")
    with pytest.raises(InferenceServerException, match="not supported"):
        client.load_model("linear", config="{}")


def test_the_command_line_loads_and_unloads(platform: Platform) -> None:
    """The same, for people."""
    done = platform.fusebox("load", "hooked")
    assert (done.returncode, done.stdout.strip()) == (0, "hooked@1 loaded"), done.stderr
    assert "hooked@1" in resident(platform)
    done = platform.fusebox("unload", "hooked@1", "--json")
    assert json.loads(done.stdout)["state"] == "unloaded"
    assert "hooked@1" not in resident(platform)
    assert platform.fusebox("load", "nope").returncode == 3


def test_kserves_client_is_served(platform: Platform, expected: Tensor) -> None:
    """Health, readiness, inference in JSON and binary, and the text of an error."""
    with warnings.catch_warnings():
        # of its own dependencies, at import
        warnings.simplefilter("ignore")
        from kserve import InferenceRESTClient, InferInput, InferRequest
        from kserve.inference_client import RESTConfig

    def request(name: str, is_binary: bool) -> Any:
        tensor = InferInput(name, list(X.shape), "FP32")
        tensor.set_data_from_numpy(X, binary_data=is_binary)
        return InferRequest(model_name="linear", infer_inputs=[tensor], request_id="an id")

    async def call() -> list[Any]:
        kserve = InferenceRESTClient(RESTConfig(protocol="v2", retries=1, timeout=PATIENCE_S))
        url = platform.url
        try:
            assert await kserve.is_server_live(url)
            assert await kserve.is_server_ready(url)
            assert await kserve.is_model_ready(url, "linear")
            assert not await kserve.is_model_ready(url, "nope")
            with pytest.raises(Exception, match="unexpected inference input 'X'"):
                await kserve.infer(url, request("X", True), "linear")
            sent = [request("input", is_binary) for is_binary in (True, False)]
            return [await kserve.infer(url, each, "linear") for each in sent]
        finally:
            await kserve.close()

    for response in asyncio.run(call()):
        assert response.id == "an id"
        found = response.outputs[0].as_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6)
