"""Other platforms' clients, as they are, before a whole platform."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import numpy as np
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from bench._platform import Platform
from tests.e2e.functions import linear
from tests.e2e.test_invoke import X, eager

with warnings.catch_warnings():
    # of pydantic's own, on Python versions that it does not know
    warnings.simplefilter("ignore")
    import replicate
    from replicate.exceptions import ModelError, ReplicateError

HOOKED = {"numbers": [1.0, 2.0, 3.0]}
DOUBLED = {"doubled": [2.0, 4.0, 6.0]}


@pytest.fixture(scope="module")
def boto(platform: Platform) -> Iterator[Any]:
    """boto3's client of Lambda, with the retries that it has by itself."""
    made = boto3.client(
        "lambda",
        region_name="eu-central-1",
        endpoint_url=platform.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(read_timeout=60),
    )
    with closing(made) as client:
        yield client


@pytest.fixture(scope="module")
def predictor(platform: Platform) -> Iterator[replicate.Client]:
    """Replicate's client."""
    client = replicate.Client(api_token="any", base_url=platform.url)
    yield client
    # it has no way to say so itself
    client._client.close()


def payload(answer: dict[str, Any]) -> Any:
    """What an Invoke gave."""
    return json.loads(answer["Payload"].read())


def test_boto3_calls_a_model(boto: Any) -> None:
    """Tensors in, the values of PyTorch out."""
    event = json.dumps({"inputs": {"input": X.tolist()}})
    answer = boto.invoke(FunctionName="linear", Payload=event)
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "1")
    found = payload(answer)["output"]
    np.testing.assert_allclose(found, eager(linear), rtol=1e-5, atol=1e-6)
    dry = boto.invoke(FunctionName="linear", Payload=event, InvocationType="DryRun")
    assert dry["StatusCode"] == 204


def test_boto3_reads_results_failures_and_logs(boto: Any) -> None:
    """A function's own exception is an answer; what it printed is in the tail."""
    event = json.dumps(HOOKED | {"do": "print"})
    answer = boto.invoke(FunctionName="hooked", Payload=event, LogType="Tail")
    assert payload(answer) == DOUBLED
    assert "seen in the log" in base64.b64decode(answer["LogResult"]).decode()
    failed = boto.invoke(FunctionName="hooked", Payload=json.dumps({"do": "raise"}))
    assert (failed["StatusCode"], failed["FunctionError"]) == (200, "Unhandled")
    assert "the payload asked for it" in payload(failed)["errorMessage"]
    with pytest.raises(ClientError) as caught:
        boto.invoke(FunctionName="nope")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"
    # an exception that boto3 makes of the type
    with pytest.raises(boto.exceptions.InvalidRequestContentException):
        boto.invoke(FunctionName="linear", Payload=b'{"inputs": {}}')


def test_boto3_sends_events_that_run(boto: Any, platform: Platform) -> None:
    """The answer has the job's id, which the platform's own API knows."""
    answer = boto.invoke(FunctionName="hooked", Payload=json.dumps(HOOKED), InvocationType="Event")
    assert answer["StatusCode"] == 202
    job = answer["ResponseMetadata"]["RequestId"]
    record = requests.get(f"{platform.url}/v1/jobs/{job}?wait=30", timeout=60).json()
    assert (record["status"], record["result"]) == ("succeeded", DOUBLED)


def test_boto3_lists_and_makes_aliases(boto: Any) -> None:
    """A name with a colon travels encoded."""
    names = [function["FunctionName"] for function in boto.list_functions()["Functions"]]
    assert {"linear", "linear2", "hooked"} <= set(names)
    boto.create_alias(FunctionName="hooked", Name="prod", FunctionVersion="1")
    answer = boto.invoke(FunctionName="hooked:prod", Payload=json.dumps(HOOKED))
    assert (payload(answer), answer["ExecutedVersion"]) == (DOUBLED, "1")
    boto.delete_alias(FunctionName="hooked", Name="prod")
    with pytest.raises(boto.exceptions.ResourceNotFoundException):
        boto.get_alias(FunctionName="hooked", Name="prod")


def test_replicate_runs_a_model(predictor: replicate.Client) -> None:
    """By its name, and by a version, whose schema it asks for."""
    assert predictor.run("any/hooked", input=HOOKED) == DOUBLED
    assert predictor.run("any/hooked:hooked@1", input=HOOKED) == DOUBLED
    found = predictor.run("any/linear", input={"input": X.tolist()}, use_file_output=False)
    np.testing.assert_allclose(found["output"], eager(linear), rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match="the payload asked for it"):
        predictor.run("any/hooked", input={"do": "raise"})


def test_replicate_polls_a_prediction(predictor: replicate.Client) -> None:
    """From `starting` to its output; what has ended cannot be cancelled."""
    predictor.poll_interval = 0.05
    prediction = predictor.predictions.create(version="hooked@1", input=HOOKED)
    prediction.wait()
    assert (prediction.status, prediction.output) == ("succeeded", DOUBLED)
    prediction.cancel()
    assert prediction.status == "succeeded"
    model = predictor.models.get("any/hooked")
    assert model.latest_version is not None
    assert model.latest_version.id == "hooked@1"
    with pytest.raises(ReplicateError, match="No function nope is deployed"):
        predictor.predictions.create(version="nope", input={})


def test_curl_of_openfaas(platform: Platform) -> None:
    """Without a type, as curl sends data; asynchronous calls are found by their id."""
    url, data = platform.url, json.dumps(HOOKED)
    form = {"Content-Type": "application/x-www-form-urlencoded", "X-Call-Id": "one"}
    answer = requests.post(f"{url}/function/hooked", data=data, headers=form, timeout=60)
    assert (answer.status_code, answer.json()) == (200, DOUBLED)
    assert answer.headers["X-Call-Id"] == "one"
    later = requests.post(f"{url}/async-function/hooked.openfaas-fn", data=data, timeout=60)
    assert (later.status_code, later.content) == (202, b"")
    job = later.headers["X-Call-Id"]
    assert requests.get(f"{url}/v1/jobs/{job}?wait=30", timeout=60).json()["result"] == DOUBLED
    raised = requests.post(f"{url}/function/hooked", data='{"do": "raise"}', timeout=60)
    assert (raised.status_code, "X-OpenFaaS-Internal" in raised.headers) == (500, False)
    listed = requests.get(f"{url}/system/functions", timeout=60).json()
    [hooked] = [function for function in listed if function["name"] == "hooked"]
    assert (hooked["replicas"], hooked["invocationCount"] >= 2) == (1, True)
