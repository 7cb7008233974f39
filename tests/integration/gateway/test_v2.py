"""The V2 door over a real store: models, inference, errors in its clients' words."""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from flask.testing import FlaskClient

from contract.errors import FunctionFailed
from contract.job import JobId, Outcome
from contract.store import Store
from contract.store.queue import Cursor, Fetched
from contract.tensors import TensorSpec, unpack_tensors
from gateway.v2.datatypes import to_wire
from gateway.v2.payloads import CONTENT_TYPE
from tests.integration.gateway.builders import FakeWorker, publish, report, rows, succeeded
from tests.unit.gateway.manifests import MANIFEST, WITH_HOOKS, X

INFER = "/v2/models/echo/infer"
LENGTH = "Inference-Header-Content-Length"
INPUT = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2.5, -3, 4]}


def request(**changes: Any) -> dict[str, Any]:
    """An inference request for `echo`, whose input is changed."""
    return {"inputs": [INPUT | changes]}


def binary(tensor: np.ndarray[Any, Any], **more: Any) -> tuple[bytes, dict[str, str]]:
    """A body of one binary tensor and its header."""
    parameters = {"binary_data_size": tensor.nbytes}
    input_ = {"name": "x", "datatype": "FP32", "shape": tensor.shape, "parameters": parameters}
    head = orjson.dumps({"inputs": [input_], **more})
    return head + tensor.tobytes(), {LENGTH: str(len(head))}


def outputs_of(answer: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The float32 outputs behind the JSON of an answer."""
    length = int(answer.headers[LENGTH])
    found, at = {}, length
    for output in orjson.loads(answer.data[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        data = np.frombuffer(answer.data[at : at + size], "<f4")
        found[output["name"]] = data.reshape(output["shape"])
        at += size
    assert at == len(answer.data)
    return found


def test_a_model_is_called_in_json(client: FlaskClient, store: Store, worker: FakeWorker) -> None:
    """Flat values, the id echoed, no Content-Type needed."""
    publish(store)
    answer = client.post(INFER, data=orjson.dumps(request() | {"id": "seven"}))
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    output = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.5, -3.0, 4.0]}
    assert answer.json == {
        "model_name": "echo",
        "model_version": "1",
        "id": "seven",
        "outputs": [output],
    }
    assert answer.headers["Fusebox-Job"]


def test_a_version_is_called_by_its_number(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Over the short cut, and where the latest is another one."""
    publish(store)
    publish(store)
    answer = client.post("/v2/models/echo/versions/1/infer", json=request())
    assert answer.json["model_version"] == "1"
    assert client.post(INFER, json=request()).json["model_version"] == "2"


def test_tensors_are_sent_and_answered_in_binary(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """As the request wants, or each output."""
    publish(store)
    x = rows(3)
    body, headers = binary(x, parameters={"binary_data_output": True})
    answer = client.post(INFER, data=body, headers=headers)
    assert answer.content_type == "application/octet-stream"
    np.testing.assert_array_equal(x, outputs_of(answer)["x"])
    body, headers = binary(x, outputs=[{"name": "x", "parameters": {"binary_data": True}}])
    np.testing.assert_array_equal(
        x, outputs_of(client.post(INFER, data=body, headers=headers))["x"]
    )
    body, headers = binary(x, outputs=[{"name": "x"}])
    assert client.post(INFER, data=body, headers=headers).json["outputs"][0]["data"] == [
        *x.reshape(-1)
    ]


def test_a_raw_body_is_the_one_input_of_one_row(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """No JSON at all; the outputs are binary."""
    publish(store)
    x = rows(1)
    answer = client.post(INFER, data=x.tobytes(), headers={LENGTH: "0"})
    np.testing.assert_array_equal(x, outputs_of(answer)["x"])
    wrong = client.post(INFER, data=rows(2).tobytes(), headers={LENGTH: "0"})
    assert (wrong.status_code, wrong.json["error"]) == (
        400,
        "unexpected size for input 'x': [1, 4] of FP32 takes 16 bytes, got 32",
    )


def test_a_raw_body_needs_a_model_of_one_input(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Else nobody knows whose bytes these are."""
    two = replace(MANIFEST, inputs=(X, X._replace(name="y")))
    publish(store, manifest=two)
    answer = client.post(INFER, data=bytes(16), headers={LENGTH: "0"})
    assert answer.json["error"].startswith("Raw request must only have 1 input (found 1)")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_are_compressed_both_ways(
    client: FlaskClient, store: Store, worker: FakeWorker, encoding: str
) -> None:
    """The header has the length of the JSON before it was compressed."""
    publish(store, manifest=replace(MANIFEST, max_batch=200))
    x = rows(200)
    body, headers = binary(x, parameters={"binary_data_output": True})
    squeeze, unsqueeze = {
        "gzip": (gzip.compress, gzip.decompress),
        "deflate": (zlib.compress, zlib.decompress),
    }[encoding]
    headers |= {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    answer = client.post(INFER, data=squeeze(body), headers=headers)
    assert (answer.status_code, answer.headers["Content-Encoding"]) == (200, encoding)
    answer.data = unsqueeze(answer.data)
    np.testing.assert_array_equal(x, outputs_of(answer)["x"])


def test_a_bomb_is_too_large(client: FlaskClient, store: Store) -> None:
    """413, at the bound of bodies."""
    publish(store)
    headers = {"Content-Encoding": "gzip"}
    answer = client.post(INFER, data=gzip.compress(bytes(10**6)), headers=headers)
    assert (answer.status_code, answer.content_type) == (413, "application/json")
    assert "100000 bytes when inflated" in answer.json["error"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (request(name="X"), "unexpected inference input 'X' for model 'echo'"),
        (
            {"inputs": []},
            (
                "expected 1 inputs but got 0 inputs for model 'echo'. Got input(s) [], but missing "
                "required input(s) ['x']. Please provide all required input(s)."
            ),
        ),
        (
            request(datatype="INT32", data=[1, 2, 3, 4]),
            "inference input 'x' data-type is 'INT32', but model 'echo' expects 'FP32'",
        ),
        (
            request(shape=[4]),
            "unexpected shape for input 'x' for model 'echo'. Expected [-1, 4], got [4]",
        ),
        (
            request(shape=[9, 4], data=[0] * 36),
            "inference request batch-size must be <= 8 for 'echo'",
        ),
        (request(shape=[0, 4], data=[]), "inputs.x: expected 1 to 8 rows, got 0 rows"),
        (
            request() | {"outputs": [{"name": "NOPE"}]},
            "unexpected inference output 'NOPE' for model 'echo'",
        ),
        (
            request() | {"parameters": {"priority": -1}},
            "parameter priority: expected a whole number from 0, got -1",
        ),
        (
            request() | {"parameters": {"timeout": "1"}},
            "parameter timeout: expected a whole number from 0, got '1'",
        ),
        (request() | {"id": 3}, "id: expected a string of at most 1024 characters"),
        ([], "request: expected a JSON object"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_triton(
    client: FlaskClient, store: Store, sent: Any, said: str
) -> None:
    """400 and plain JSON, also where Triton has 500; nothing is accepted."""
    publish(store)
    answer = client.post(INFER, data=orjson.dumps(sent))
    assert (answer.status_code, answer.content_type) == (400, "application/json")
    assert answer.json == {"error": said}
    assert store.telemetry.conservation().accepted == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/v2/models/nope/infer", 404, "Request for unknown model: 'nope' is not found"),
        ("POST", "/v2/models/NO%20/infer", 404, "Request for unknown model: 'NO ' is not found"),
        ("POST", "/v2/models/echo/versions/9/infer", 404,
         "Request for unknown model: 'echo' version 9 is not found"),
        ("POST", "/v2/models/echo/versions/0/infer", 404,
         "Request for unknown model: 'echo' version 0 is not found"),
        ("POST", "/v2/models/echo@1/versions/2/infer", 404,
         "Request for unknown model: 'echo@1' version 2 is not found"),
        ("POST", "/v2/models/a/b/infer", 404, "Not Found"),
        ("GET", "/v2/models/nope", 404, "Request for unknown model: 'nope' is not found"),
        ("GET", "/v2/models/nope/ready", 404, "Request for unknown model: 'nope' is not found"),
        ("GET", "/v2/models/nope/stats", 404, "Request for unknown model: 'nope' is not found"),
        ("GET", "/v2/models/echo/versions/x", 404,
         "Request for unknown model: 'echo' version x is not found"),
        ("GET", "/v2/nothing", 404, "Not Found"),
        ("GET", "/v2/models/echo/infer", 405, "Method Not Allowed"),
        ("GET", "/v2/trace/setting", 400, "tracing is not supported"),
        ("POST", "/v2/models/echo/trace/setting", 400, "tracing is not supported"),
        ("POST", "/v2/repository/models/nope/load", 404,
         "failed to load 'nope', failed to poll from model repository"),
    ],
)  # fmt: skip
def test_errors_are_as_v2_clients_read_them(
    client: FlaskClient, store: Store, method: str, path: str, status: int, said: str
) -> None:
    """`error` alone, of exactly application/json: KServe's client looks at that."""
    publish(store)
    store.workers.report(report(), 600, is_news=False)
    answer = client.open(path, method=method, data=b"" if "load" in path else b'{"inputs":[]}')
    assert (answer.status_code, answer.content_type) == (status, "application/json")
    assert answer.json == {"error": said}


def hooked(fetched: Fetched) -> Outcome:
    """What a function with hooks makes of its payload: its type and its text."""
    text = fetched.payload.decode(errors="replace")
    return succeeded(result={"type": fetched.spec.payload_type, "text": text})


def test_a_function_with_hooks_takes_and_returns_json(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """One BYTES element in, one out; or another media type, or raw."""
    worker.compute = hooked
    publish(store, manifest=WITH_HOOKS)
    metadata = client.get("/v2/models/echo").json
    assert metadata["inputs"] == [{"name": "payload", "datatype": "BYTES", "shape": [1]}]
    assert metadata["outputs"] == [{"name": "result", "datatype": "BYTES", "shape": [1]}]
    payload = {"name": "payload", "datatype": "BYTES", "shape": [1], "data": ['{"a": 1}']}
    answer = client.post(INFER, json={"inputs": [payload]}).json["outputs"][0]
    assert (answer["datatype"], answer["shape"]) == ("BYTES", [1])
    assert json.loads(answer["data"][0]) == {"type": "application/json", "text": '{"a": 1}'}
    text = payload | {"data": ["words"], "parameters": {CONTENT_TYPE: "text/plain"}}
    answer = client.post(INFER, json={"inputs": [text]}).json["outputs"][0]
    assert json.loads(answer["data"][0]) == {"type": "text/plain", "text": "words"}
    raw = client.post(INFER, data=b"[1]", headers={LENGTH: "0"})
    tail = raw.data[int(raw.headers[LENGTH]) :]
    assert to_wire("BYTES", [tail[4:]]) == tail
    assert json.loads(tail[4:]) == {"type": "application/json", "text": "[1]"}
    broken = client.post(INFER, json={"inputs": [payload | {"data": ["{"]}]})
    assert (broken.status_code, broken.json["error"][:14]) == (400, "body: not JSON")
    two = client.post(INFER, json={"inputs": [payload | {"shape": [2], "data": ["1", "2"]}]})
    assert two.json["error"].endswith("Expected [1], got [2]")


def test_a_preprocess_takes_any_tensors_by_name(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Of every datatype; those that numpy's wire here has not become wider."""
    seen: list[bytes] = []

    def keep(fetched: Fetched) -> Outcome:
        seen.append(fetched.payload)
        return succeeded(result=fetched.spec.payload_type)

    worker.compute = keep
    publish(store, manifest=WITH_HOOKS)
    tensors = [
        {"name": "u", "datatype": "UINT16", "shape": [2], "data": [1, 65535]},
        {"name": "v", "datatype": "UINT64", "shape": [1, 1], "data": [[2**63 - 1]]},
    ]
    answer = client.post(INFER, json={"inputs": tensors})
    assert answer.json["outputs"][0]["data"] == ['"application/msgpack"']
    found = unpack_tensors(seen[0])
    np.testing.assert_array_equal([1, 65535], found["u"])
    assert (found["u"].dtype.name, found["v"].dtype.name) == ("int32", "int64")
    large = tensors[1] | {"data": [2**63]}
    assert client.post(INFER, json={"inputs": [large]}).status_code == 400
    words = {"name": "w", "datatype": "BYTES", "shape": [2, 1], "data": ["a", "b"]}
    client.post(INFER, json={"inputs": [words]})
    assert b"\x92\x91\xa1a\x91\xa1b" in seen[1]


def test_priority_and_timeout_are_the_jobs(client: FlaskClient, store: Store) -> None:
    """Triton's 1 is the highest, 0 the default; microseconds."""
    publish(store)
    for priority in (0, 1, 2, 2**40):
        body = request() | {"parameters": {"priority": priority, "timeout": 1000}}
        answer = client.post(INFER, json=body)
        # nobody works here
        assert answer.status_code == 504
    with closing(store.server.blocking()) as link:
        specs = store.queue.wait(link, Cursor("0-0", "$"), 1).jobs
    assert [spec.priority for spec in specs] == [0, 9, 8, 0]
    for spec in specs:
        assert spec.deadline_s - spec.accepted_at_s == pytest.approx(0.001, abs=1e-5)


def test_a_function_that_fails_says_why(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Its error, and no document of another kind."""
    worker.compute = lambda _: Outcome.of_error(FunctionFailed("it broke"))
    publish(store)
    answer = client.post(INFER, json=request())
    assert (answer.status_code, answer.json) == (500, {"error": "it broke"})
    assert store.jobs.get(JobId(answer.headers["Fusebox-Job"])).outcome is not None


def test_the_server_and_its_models_describe_themselves(client: FlaskClient, store: Store) -> None:
    """Readiness is that of the platform; whether weights are in memory does not matter."""
    assert client.get("/v2/health/live").json == {"live": True}
    not_ready = client.get("/v2/health/ready")
    assert (not_ready.status_code, not_ready.json) == (503, {"ready": False})
    publish(store)
    assert client.get("/v2/models/echo/ready").status_code == 503
    assert client.post("/v2/repository/index").json[0]["state"] == "UNAVAILABLE"
    assert store.workers.lead("scheduler", "token", 600)
    store.workers.report(report(functions={}), 600, is_news=False)
    assert client.get("/v2/health/ready").json == {"ready": True}
    assert client.get("/v2/models/echo/ready").json == {"name": "echo", "ready": True}
    server = client.get("/v2").json
    assert server["name"] == "fusebox"
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(server["extensions"])
    publish(store)
    publish(store, "other")
    assert client.get("/v2/models").json == {"models": ["echo", "other"]}
    metadata = client.get("/v2/models/echo").json
    assert metadata["versions"] == ["1", "2"]
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    assert (metadata["inputs"], metadata["outputs"]) == ([tensor], [tensor])
    assert client.get("/v2/models/echo/versions/1").json["versions"] == ["1"]
    config = client.get("/v2/models/echo/config").json
    assert config["max_batch_size"] == 8
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    index = client.post("/v2/repository/index", data=b'{"ready": true}').json
    assert [(each["name"], each["version"], each["state"]) for each in index] == [
        ("echo", "1", "READY"),
        ("echo", "2", "READY"),
        ("other", "1", "READY"),
    ]


def test_health_is_ready_without_models(client: FlaskClient, store: Store) -> None:
    """All models that there are can be called."""
    assert store.workers.lead("scheduler", "token", 600)
    store.workers.report(report(), 600, is_news=False)
    assert client.get("/readyz").status_code == 503
    assert client.get("/v2/health/ready").status_code == 200


def test_statistics_count_rows_and_groups(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Rows over groups is how many were together; memory is the worker's, by device."""
    publish(store)
    for _ in range(2):
        client.post(INFER, json=request(shape=[2, 4], data=[0] * 8))
    for path in ("/v2/models/echo/stats", "/v2/models/stats", "/v2/models/echo/versions/1/stats"):
        (model,) = client.get(path).json["model_stats"]
        assert (model["name"], model["version"], model["inference_count"]) == ("echo", "1", 4)
        assert model["inference_stats"]["success"]["count"] == 2
        assert model["memory_usage"] == [{"type": "CPU", "id": 0, "byte_size": 16}]


def test_repository_bodies_are_checked(client: FlaskClient, store: Store) -> None:
    """Overrides are not for immutable versions; unload of what is not there is done already."""
    publish(store)
    store.workers.report(report(), 600, is_news=False)
    load, unload = (f"/v2/repository/models/echo/{verb}" for verb in ("load", "unload"))
    config = client.post(load, json={"parameters": {"config": "{}"}})
    assert (config.status_code, "not supported" in config.json["error"]) == (400, True)
    assert client.post(load, data=b"{").status_code == 400
    assert client.post("/v2/repository/index", json={"ready": 1}).status_code == 400
    gone = client.post(unload.replace("echo", "nope"), json={})
    assert (gone.status_code, gone.data) == (200, b"")
    assert store.wanted.all() == []


def test_every_dtype_of_functions_is_a_datatype(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """In JSON and in binary, through a job and back."""
    for dtype in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float64"):
        spec = TensorSpec("x", dtype, (None, 2))
        publish(store, manifest=replace(MANIFEST, inputs=(spec,), outputs=(spec,)))
        datatype = client.get("/v2/models/echo").json["inputs"][0]["datatype"]
        sent = {"name": "x", "datatype": datatype, "shape": [1, 2], "data": [True, False]}
        sent |= {} if dtype == "bool" else {"data": [1, 0]}
        answer = client.post(INFER, json={"inputs": [sent]})
        assert answer.json["outputs"][0]["data"] == sent["data"], dtype
        tensor = np.array([[1, 0]], dtype)
        body, headers = binary(tensor, parameters={"binary_data_output": True})
        body = body.replace(b'"FP32"', f'"{datatype}"'.encode())
        headers = {LENGTH: str(len(body) - tensor.nbytes)}
        answer = client.post(INFER, data=body, headers=headers)
        assert answer.data.endswith(tensor.tobytes()), dtype
