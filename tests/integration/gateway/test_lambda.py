"""The AWS Lambda API over a real store, asked by boto3 and byte by byte."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from contract.access import Scope, Wish, mint
from contract.errors import HandlerFailed
from contract.job import Outcome
from contract.settings import Settings
from contract.store import Store
from contract.store.queue import Fetched
from contract.store.telemetry import now_line
from gateway.app import create_app, gateway_of
from tests.integration.gateway.builders import FakeWorker, publish
from tests.integration.gateway.test_server import running_gateway
from tests.unit.gateway.manifests import WITH_HOOKS

# what is asked of the store does not depend on the kind of server
pytestmark = pytest.mark.parametrize("redis_url", ["embedded"], indirect=True)
FUNCTIONS = "/2015-03-31/functions"
X = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
Client = Any


def connect(url: str, key: str = "any", secret: str = "any") -> closing[Client]:
    """A boto3 client, which asks once."""
    made: Client = boto3.client(
        "lambda",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=20),
    )
    return closing(made)


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """The application on a port of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def boto(app: Flask) -> Iterator[Client]:
    """A client of an open platform: any credentials will do."""
    with served(app) as url, connect(url) as client:
        yield client


def refusal(ask: Callable[[], object]) -> tuple[int, str, str]:
    """Status, code and message of what a client raises."""
    with pytest.raises(ClientError) as caught:
        ask()
    answer = caught.value.response
    error = answer["Error"]
    return answer["ResponseMetadata"]["HTTPStatusCode"], error["Code"], error["Message"]


def invoke(boto: Client, name: str, payload: object = X, **more: str) -> dict[str, Any]:
    """Invoke, with its payload read."""
    answer: dict[str, Any] = boto.invoke(
        FunctionName=name, Payload=json.dumps(payload).encode(), **more
    )
    data = answer["Payload"].read()
    return answer | {"Payload": json.loads(data) if data else None}


def test_a_call_is_answered_with_the_outputs(
    boto: Client, store: Store, worker: FakeWorker
) -> None:
    """By name, version, ARN and Qualifier; the version that ran is said."""
    publish(store)
    publish(store)
    answer = invoke(boto, "echo")
    assert (answer["StatusCode"], answer["Payload"]) == (200, {"x": X["inputs"]["x"]})
    assert (answer["ExecutedVersion"], "FunctionError" in answer) == ("2", False)
    arn = "arn:aws:lambda:us-east-1:000000000000:function:echo"
    for name, more in [("echo:1", {}), (f"{arn}:1", {}), (arn, {"Qualifier": "1"})]:
        assert invoke(boto, name, **more)["ExecutedVersion"] == "1"
    # a function with hooks gets the event as JSON; no event is an empty object
    publish(store, "hooked", WITH_HOOKS)
    event = {"key": [1, "two", None]}
    found = invoke(boto, "hooked", event)["Payload"]
    assert (found["type"], json.loads(found["body"])) == ("application/json", event)
    assert json.loads(boto.invoke(FunctionName="hooked")["Payload"].read())["body"] == "{}"


def test_an_event_is_accepted_and_runs(
    boto: Client, client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """202 with the job's id; so is InvokeAsync. DryRun runs nothing."""
    publish(store)
    answer = invoke(boto, "echo", InvocationType="Event")
    assert (answer["StatusCode"], answer["Payload"]) == (202, None)
    job = answer["ResponseMetadata"]["HTTPHeaders"]["fusebox-job"]
    assert client.get(f"/v1/jobs/{job}?wait=5").json["status"] == "succeeded"
    assert boto.invoke_async(FunctionName="echo", InvokeArgs=json.dumps(X))["Status"] == 202
    assert invoke(boto, "echo", InvocationType="DryRun")["StatusCode"] == 204
    assert store.telemetry.conservation().accepted == 2


def test_attempts_under_one_id_are_one_job(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """The first and the repeat; another payload under it is a conflict."""
    publish(store)
    path = f"{FUNCTIONS}/echo/invocations"
    ids = {"amz-sdk-invocation-id": "a1", "amz-sdk-request": "attempt=1; max=3"}
    again = ids | {"amz-sdk-request": "attempt=2; max=3"}
    first, second, third = [client.post(path, json=X, headers=how) for how in (ids, ids, again)]
    jobs = {answer.headers["Fusebox-Job"] for answer in (first, second, third)}
    assert (len(jobs), first.data) == (1, third.data)
    publish(store, "echo", WITH_HOOKS)
    # what the first attempt was accepted for decides
    assert client.post(path, json=X, headers=again).data == first.data
    other = client.post(path, json={"inputs": {"x": [[0, 0, 0, 0]]}}, headers=again)
    assert (other.status_code, other.headers["x-amzn-ErrorType"]) == (
        409,
        "ResourceConflictException",
    )


def test_a_failure_is_an_answer(redis_url: str, boto: Client, store: Store) -> None:
    """200 with FunctionError, its type and message, and the tail of the call's log alone."""
    publish(store)

    def compute(fetched: Fetched) -> Outcome:
        store.telemetry.write_log("echo", now_line(1, fetched.spec.id, "stdout", "its own line"))
        store.telemetry.write_log("echo", now_line(1, "other", "stdout", "another's line"))
        return Outcome.of_error(HandlerFailed("echo@1 preprocess: ValueError: bad"))

    worker = FakeWorker(redis_url, compute)
    worker.start()
    answer = invoke(boto, "echo", LogType="Tail")
    worker.stop()
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert answer["Payload"]["errorType"] == "HandlerFailed"
    assert answer["Payload"]["errorMessage"] == "echo@1 preprocess: ValueError: bad"
    log = base64.b64decode(answer["LogResult"]).decode()
    assert "its own line" in log
    assert "another's line" not in log


def test_what_is_wrong_is_said_as_aws_says_it(
    boto: Client, client: FlaskClient, store: Store
) -> None:
    """Status, code and message of every refusal."""
    publish(store)
    lacks = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:"
    assert refusal(lambda: invoke(boto, "nope")) == (
        404, "ResourceNotFoundException", f"{lacks}nope",
    )  # fmt: skip
    assert refusal(lambda: invoke(boto, "echo:9"))[2] == f"{lacks}echo:9"
    assert refusal(lambda: invoke(boto, "echo:nope"))[:2] == (404, "ResourceNotFoundException")
    status, code, text = refusal(lambda: invoke(boto, "echo", {"inputs": {"x": [[1.0]]}}))
    assert (status, code) == (400, "InvalidRequestContentException")
    assert text == "inputs.x: expected shape [rows, 4], got shape [1, 1]"
    for path, status, kind in [
        ("/2015-03-31/nothing", 404, "UnknownOperationException"),
        (f"{FUNCTIONS}/a%20b/invocations", 400, "InvalidParameterValueException"),
        (f"{FUNCTIONS}/echo/invocations?Qualifier=%00", 400, "InvalidParameterValueException"),
    ]:
        answer = client.post(path, data=b"{")
        assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (status, kind), path
    answer = client.post(f"{FUNCTIONS}/echo/invocations", data=b"{")
    assert answer.headers["x-amzn-ErrorType"] == "InvalidRequestContentException"
    large = client.post(f"{FUNCTIONS}/echo/invocations", data=b" " * 100_001)
    assert (large.status_code, large.json["Type"]) == (413, "User")


def test_overload_is_too_many_requests(boto: Client, store: Store, settings: Settings) -> None:
    """429 with Retry-After and a reason."""
    publish(store)
    for _ in range(settings.function_queue_limit):
        assert invoke(boto, "echo", InvocationType="Event")["StatusCode"] == 202
    with pytest.raises(ClientError) as caught:
        invoke(boto, "echo", InvocationType="Event")
    answer: Any = caught.value.response
    assert answer["Error"]["Code"] == "TooManyRequestsException"
    assert answer["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert answer["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"


def test_functions_are_listed_page_by_page(boto: Client, store: Store) -> None:
    """The latest of each, or every version; a marker outlives what it names."""
    for name in ("a", "b", "b", "c"):
        publish(store, name)
    pages = boto.get_paginator("list_functions")
    one_each = [page["Functions"] for page in pages.paginate(PaginationConfig={"PageSize": 1})]
    assert [found["FunctionName"] for [found] in one_each] == ["a", "b", "c"]
    every = boto.list_functions(FunctionVersion="ALL")["Functions"]
    assert [(f["FunctionName"], f["Version"]) for f in every] == [
        ("a", "$LATEST"), ("a", "1"), ("b", "$LATEST"), ("b", "1"), ("b", "2"),
        ("c", "$LATEST"), ("c", "1"),
    ]  # fmt: skip
    first = boto.list_functions(MaxItems=2)
    store.functions.retire(store.functions.latest()[1]._replace(version=0))
    rest = boto.list_functions(Marker=first["NextMarker"])
    assert [f["FunctionName"] for f in rest["Functions"]] == ["c"]
    assert refusal(lambda: boto.list_functions(Marker="x"))[1] == "InvalidParameterValueException"


def test_a_function_is_described(boto: Client, store: Store) -> None:
    """Its configuration, its versions and where its artifact is."""
    publish(store)
    publish(store)
    found = boto.get_function(FunctionName="echo", Qualifier="1")
    configuration = found["Configuration"]
    assert (configuration["Version"], configuration["State"]) == ("1", "Active")
    assert (configuration["Timeout"], configuration["MemorySize"]) == (20, 1)
    assert found["Code"]["Location"] == f"/v1/artifacts/{'b' * 64}.tar"
    latest = boto.get_function_configuration(FunctionName="echo")
    assert latest["FunctionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:echo"
    versions = boto.list_versions_by_function(FunctionName="echo")["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1", "2"]
    assert boto.publish_version(FunctionName="echo")["Version"] == "2"
    boto.delete_function(FunctionName="echo", Qualifier="1")
    assert store.functions.versions("echo") == [2]
    boto.delete_function(FunctionName="echo")
    assert refusal(lambda: boto.get_function(FunctionName="echo"))[0] == 404


def test_an_alias_is_made_moved_and_removed(boto: Client, store: Store, worker: FakeWorker) -> None:
    """With shares of two versions; a revision that is over is refused."""
    for _ in range(3):
        publish(store)
    prod = {"FunctionName": "echo", "Name": "prod"}
    made = boto.create_alias(**prod, FunctionVersion="1")
    assert (made["FunctionVersion"], "RoutingConfig" in made) == ("1", False)
    assert made["AliasArn"].endswith(":function:echo:prod")
    assert invoke(boto, "echo:prod")["ExecutedVersion"] == "1"
    again = refusal(
        lambda: boto.create_alias(FunctionName="echo", Name="prod", FunctionVersion="1")
    )
    assert again[:2] == (409, "ResourceConflictException")
    shares = {"AdditionalVersionWeights": {"3": 0.25}}
    moved = boto.update_alias(
        **prod, FunctionVersion="2", RoutingConfig=shares,
        RevisionId=made["RevisionId"],
    )  # fmt: skip
    assert (moved["FunctionVersion"], moved["RoutingConfig"]) == ("2", shares)
    assert store.aliases.of("echo")["prod"].text == "2:7500,3:2500"
    assert boto.get_alias(**prod)["RoutingConfig"] == shares
    assert {invoke(boto, "echo", Qualifier="prod")["ExecutedVersion"] for _ in range(40)} == {
        "2", "3",
    }  # fmt: skip
    # what is not said stays
    assert boto.update_alias(**prod)["RoutingConfig"] == shares
    stale = refusal(lambda: boto.update_alias(**prod, RevisionId=made["RevisionId"]))
    assert stale[:2] == (412, "PreconditionFailedException")
    assert len(boto.list_aliases(FunctionName="echo")["Aliases"]) == 1
    assert boto.list_aliases(FunctionName="echo", FunctionVersion="1")["Aliases"] == []
    boto.delete_alias(**prod)
    boto.delete_alias(**prod)
    assert refusal(lambda: boto.get_alias(**prod))[0] == 404


@pytest.mark.parametrize(
    ("version", "weights", "status"),
    [
        ("9", {}, 404), ("$LATEST", {}, 400), ("1", {"9": 0.5}, 404), ("1", {"2": 1.0}, 400),
        ("1", {"2": 0.0}, 400), ("1", {"1": 0.5}, 400), ("1", {"2": 0.1, "3": 0.1}, 400),
        ("1", {"$LATEST": 0.5}, 400),
    ],
)  # fmt: skip
def test_an_alias_that_means_nothing_is_refused(
    client: FlaskClient, store: Store, version: str, weights: dict[str, float], status: int
) -> None:
    """Versions that are not there, shares that are none."""
    for _ in range(3):
        publish(store)
    body = {"Name": "prod", "FunctionVersion": version}
    body |= {"RoutingConfig": {"AdditionalVersionWeights": weights}} if weights else {}  # type: ignore[dict-item]
    answer = client.post(f"{FUNCTIONS}/echo/aliases", json=body)
    assert (answer.status_code, store.aliases.of("echo")) == (status, {}), answer.text


STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/"


def test_a_mapping_is_a_stream_trigger(boto: Client, client: FlaskClient, store: Store) -> None:
    """Made, listed, paused and removed; the platform's own API shows the same."""
    publish(store)
    wanted = {"EventSourceArn": f"{STREAM}orders", "FunctionName": "echo:1"}
    made = boto.create_event_source_mapping(**wanted, StartingPosition="TRIM_HORIZON", BatchSize=9)
    uuid = made["UUID"]
    assert (made["State"], made["BatchSize"]) == ("Enabled", 9)
    assert made["FunctionArn"].endswith(":function:echo:1")
    trigger = client.get(f"/v1/triggers/{uuid}").json
    assert (trigger["function"], trigger["state"]) == ("echo@1", "active")
    assert trigger["stream"] == {"key": "orders", "from": "start", "batch": 9}
    paused = boto.update_event_source_mapping(UUID=uuid, Enabled=False, BatchSize=9)
    assert paused["State"] == "Disabled"
    assert client.get(f"/v1/triggers/{uuid}").json["state"] == "paused"
    other = boto.create_event_source_mapping(
        EventSourceArn=f"{STREAM}others", FunctionName="echo", StartingPosition="LATEST",
        Enabled=False,
    )  # fmt: skip
    assert (other["State"], other["BatchSize"]) == ("Disabled", 100)
    pages = boto.get_paginator("list_event_source_mappings")
    every = [m["UUID"] for page in pages.paginate(PaginationConfig={"PageSize": 1})
             for m in page["EventSourceMappings"]]  # fmt: skip
    assert every == sorted([uuid, other["UUID"]])
    [one] = boto.list_event_source_mappings(**wanted)["EventSourceMappings"]
    shown = boto.get_event_source_mapping(UUID=uuid)
    assert one == {name: shown[name] for name in one}
    assert boto.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"
    assert refusal(lambda: boto.get_event_source_mapping(UUID=uuid))[:2] == (
        404, "ResourceNotFoundException",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:queue"}, 400),
        ({"EventSourceArn": f"{STREAM}fb:jobs"}, 400),
        ({"StartingPosition": "AT_TIMESTAMP"}, 400),
        ({"StartingPosition": None}, 400),
        ({"BatchSize": 10_000}, 400),
        ({"BatchSize": True}, 400),
        ({"Enabled": 1}, 400),
        ({"ParallelizationFactor": 2}, 400),
        ({"FunctionName": "nope"}, 404),
        ({"FunctionName": "echo:nope"}, 404),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(
    client: FlaskClient, store: Store, changed: dict[str, object], status: int
) -> None:
    """Other sources, keys of the platform, members that mean nothing here."""
    publish(store)
    body = {
        "EventSourceArn": f"{STREAM}orders", "FunctionName": "echo", "StartingPosition": "LATEST",
    }  # fmt: skip
    answer = client.post("/2015-03-31/event-source-mappings", json=body | changed)
    assert (answer.status_code, answer.json["Type"]) == (status, "User"), answer.text
    assert client.get("/2015-03-31/event-source-mappings").json == {"EventSourceMappings": []}


def test_what_the_platform_has_not_is_said(boto: Client, store: Store) -> None:
    """No reserved concurrency; no ZIP files: `fusebox deploy` is named."""
    publish(store)
    assert "ReservedConcurrentExecutions" not in boto.get_function_concurrency(FunctionName="echo")
    boto.delete_function_concurrency(FunctionName="echo")
    put = {"FunctionName": "echo", "ReservedConcurrentExecutions": 3}
    status, code, text = refusal(lambda: boto.put_function_concurrency(**put))
    assert (status, code) == (400, "InvalidParameterValueException")
    assert "FUSEBOX_FUNCTION_QUEUE_LIMIT" in text
    new: dict[str, Any] = {"FunctionName": "new", "Runtime": "python3.12", "Handler": "h"}
    new |= {"Role": "arn:aws:iam::000000000000:role/r", "Code": {"ZipFile": b"PK"}}
    for ask in (
        lambda: boto.create_function(**new),
        lambda: boto.update_function_code(FunctionName="echo", ZipFile=b"PK"),
        lambda: boto.update_function_configuration(FunctionName="echo", Timeout=3),
    ):
        status, code, text = refusal(ask)
        assert (status, code) == (400, "InvalidParameterValueException")
        assert "fusebox deploy" in text


@pytest.fixture
def guarded(settings: Settings, store: Store) -> Iterator[str]:
    """A platform that asks for keys."""
    app = create_app(replace(settings, auth="on"), store)
    with served(app) as url:
        yield url
    gateway_of(app).replies.close()


def make_key(store: Store, *scopes: Scope) -> tuple[str, str]:
    """The credentials of a new key."""
    key, token = mint(Wish(scopes=scopes or (Scope.INVOKE,)))
    store.api_keys.add(key)
    return token.id, token.signing_secret


def test_a_signature_opens_what_its_key_may(guarded: str, store: Store, worker: FakeWorker) -> None:
    """By scope; a wrong secret, an unknown key and none at all are refused as AWS refuses them."""
    publish(store)
    key, secret = make_key(store)
    with connect(guarded, key, secret) as boto:
        assert invoke(boto, "echo:$LATEST")["StatusCode"] == 200
        assert invoke(boto, "echo", Qualifier="$LATEST")["StatusCode"] == 200
        assert len(boto.list_functions(MaxItems=9)["Functions"]) == 1
        alias = {"FunctionName": "echo", "Name": "prod", "FunctionVersion": "1"}
        assert refusal(lambda: boto.create_alias(**alias))[:2] == (403, "AccessDeniedException")
        # logs are for those who deploy
        assert refusal(lambda: invoke(boto, "echo", LogType="Tail"))[1] == "AccessDeniedException"
    with connect(guarded, *make_key(store, Scope.DEPLOY, Scope.INVOKE)) as boto:
        assert boto.create_alias(**alias)["Name"] == "prod"
        assert invoke(boto, "echo:prod", LogType="Tail")["LogResult"]
    for credentials, code in [
        ((key, "ab" * 32), "InvalidSignatureException"),
        (("0" * 12, secret), "UnrecognizedClientException"),
        (("AKIAIOSFODNN7EXAMPLE", secret), "UnrecognizedClientException"),
    ]:
        with connect(guarded, *credentials) as boto:
            assert refusal(lambda: invoke(boto, "echo"))[:2] == (403, code)


def test_a_shown_key_does_as_well(settings: Settings, store: Store) -> None:
    """`Authorization: Bearer`, as on every other route; without anything: 403 in AWS's shape."""
    key, token = mint(Wish())
    store.api_keys.add(key)
    client = create_app(replace(settings, auth="on"), store).test_client()
    shown = {"Authorization": f"Bearer {token.text}"}
    assert client.get(FUNCTIONS, headers=shown).json == {"Functions": []}
    for header in ("", "AWS4-HMAC-SHA256 x", "AWS4-HMAC-SHA256 Credential=a/b/c"):
        answer = client.get(FUNCTIONS, headers={"Authorization": header} if header else {})
        assert (answer.status_code, answer.json["Type"]) == (403, "User")


def test_signatures_hold_before_the_real_server(
    redis_url: str, store: Store, worker: FakeWorker, tmp_path: Path
) -> None:
    """gunicorn and gevent leave the path as it was signed, and the body to be read once more."""
    publish(store)
    with running_gateway(redis_url, tmp_path, FUSEBOX_AUTH="on") as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        with connect(url, *make_key(store)) as boto:
            assert invoke(boto, "echo:$LATEST", Qualifier="$LATEST")["StatusCode"] == 200
        with connect(url, "0" * 12, "ab" * 32) as boto:
            assert refusal(lambda: invoke(boto, "echo"))[0] == 403
