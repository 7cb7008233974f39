"""Results that go to functions and to streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import msgpack
import numpy as np

from contract import keys
from contract.delivery import State
from contract.destinations import parse
from contract.job import TENSORS, JobId, Outcome, Status
from contract.origin import MAX_DEPTH, Origin
from contract.store import Store
from contract.tensors import TensorSpec, encode_tensor
from gateway.context import Gateway
from gateway.delivery.chain import call_function
from gateway.delivery.formats import End
from tests.integration.delivery.builders import FAILED, OUTPUTS, end, log_of
from tests.integration.store.builders import a_manifest, deploy

Deliver = Callable[..., None]


def payload_of(store: Store, job: str) -> bytes:
    """What a job was made of."""
    found = store.server.redis.hget(keys.job(job), "payload")
    assert isinstance(found, bytes)
    return found


def test_a_result_becomes_the_input_of_a_function(store: Store, deliver: Deliver) -> None:
    """The one output the one input, whatever they are called; its cause and depth are kept."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    function = deploy(store)
    deploy(store, "next")
    origin = Origin(on_success=("function:next",), traceparent=trace, depth=2)
    job = end(store, function, origin)
    deliver()
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.attempts) == (State.DELIVERED, 1)
    made = store.jobs.get(delivery.job)
    assert (made.spec.function, made.status) == ("next", Status.QUEUED)
    assert made.origin == Origin(traceparent=trace, cause=f"job:{job}", depth=3, is_kept=True)
    assert msgpack.unpackb(payload_of(store, delivery.job)) == {"x": OUTPUTS["output"]}


def test_repeats_make_one_job(store: Store, gateway: Gateway) -> None:
    """A process that died after the call finds the job that it made."""
    function = deploy(store)
    deploy(store, "next")
    finished = store.jobs.get(end(store, function, Origin()))
    destination = parse("function:next@1")
    attempts = {call_function(gateway, destination, End(finished, 0.0)) for _ in range(2)}
    assert len(attempts) == 1
    assert store.telemetry.conservation().queued == 1


def test_chains_end(store: Store, deliver: Deliver) -> None:
    """A function that names itself is called so often and no more."""
    store.functions.publish("echo", "d" * 64, a_manifest(on_success=("function:echo",)))
    function = store.functions.all()[0]
    job = end(store, function, Origin(on_success=("function:echo",), depth=MAX_DEPTH))
    deliver()
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.attempts) == (State.GIVEN_UP, 1)
    assert delivery.error == f"a chain of more than {MAX_DEPTH} calls"


def test_a_function_that_does_not_take_it_says_why(store: Store, deliver: Deliver) -> None:
    """For good; one that is not there as well."""
    function = deploy(store)
    wide = TensorSpec("x", "float32", (None, 9))
    store.functions.publish("wide", "d" * 64, a_manifest(inputs=(wide,)))
    job = end(store, function, Origin(on_success=("function:wide", "function:nobody")))
    deliver()
    refused, unknown = log_of(store, job)
    assert refused.state is unknown.state is State.GIVEN_UP
    assert refused.error.startswith("invalid_input: inputs.x: expected shape [rows, 9]")
    assert unknown.error.startswith("unknown_function: ")


def test_a_full_queue_is_tried_again(store: Store, gateway: Gateway) -> None:
    """After the time that the queue says."""
    function = deploy(store)
    deploy(store, "next")
    finished = store.jobs.get(end(store, function, Origin()))
    full = Gateway.wire(replace(gateway.settings, queue_limit=1), store)
    assert not call_function(full, parse("function:next"), End(finished, 0.0)).error
    again = call_function(full, parse("function:next@1"), End(finished, 0.0))
    assert again.error.startswith("queue_full")
    assert (again.is_lasting, again.retry_after_s) == (False, 1.0)


def test_functions_with_code_of_their_own_get_json(store: Store, deliver: Deliver) -> None:
    """A result as it is, outputs under their names, and the event of a failure."""
    manifest = a_manifest(has_preprocess=True, has_postprocess=True)
    function = store.functions.publish("hooked", "d" * 64, manifest)
    text = Outcome(Status.SUCCEEDED, result={"label": "cat"})
    told = Origin(on_success=("function:hooked",), on_failure=("function:hooked",))
    found = {}
    deliver()
    for name, outcome in (("result", text), ("failure", FAILED)):
        job = end(store, function, told, outcome)
        made = store.jobs.get(log_of(store, job)[0].job)
        found[name] = (made.spec.payload_type, json.loads(payload_of(store, made.spec.id)))
    assert found["result"] == ("application/json", {"label": "cat"})
    media, event = found["failure"]
    assert (media, event["type"]) == ("application/cloudevents+json", "dev.fusebox.job.failed")


def test_results_of_postprocess_become_tensors(store: Store, deliver: Deliver) -> None:
    """By name, or as the one input."""
    function = deploy(store)
    deliver()
    for result in ([[1, 2, 3, 4]], {"x": [[1, 2, 3, 4]]}, {"inputs": {"x": [[1, 2, 3, 4]]}}):
        job = end(
            store,
            function,
            Origin(on_success=("function:echo",)),
            Outcome(Status.SUCCEEDED, result=result),
        )
        made = store.jobs.get(log_of(store, job)[0].job)
        assert made.spec.payload_type == TENSORS
        expected = encode_tensor(np.array([[1, 2, 3, 4]], np.float32))
        assert msgpack.unpackb(payload_of(store, made.spec.id)) == {"x": expected}


def test_streams_get_the_event_once(store: Store, deliver: Deliver) -> None:
    """In the move that logs it; a key that is something else is left as it is."""
    store.server.redis.set("events:taken", "mine")
    job = end(store, deploy(store), Origin(on_success=("stream:events:out", "stream:events:taken")))
    deliver()
    written, refused = log_of(store, job)
    assert (written.state, refused.state) == (State.DELIVERED, State.GIVEN_UP)
    assert refused.error == "events:taken is no stream"
    [(_, fields)] = store.server.redis.xrange("events:out")
    event = json.loads(fields[b"event"])
    assert (event["id"], event["type"]) == (JobId(job), "dev.fusebox.job.succeeded")
    assert store.server.redis.get("events:taken") == b"mine"


def test_a_large_result_is_said_to_be_found_elsewhere(store: Store, deliver: Deliver) -> None:
    """Events have a bound; the record has it all."""
    large = Outcome(Status.SUCCEEDED, result="x" * 2**20)
    job = end(store, deploy(store), Origin(on_success=("stream:events:out",)), large)
    deliver()
    log_of(store, job)
    [(_, fields)] = store.server.redis.xrange("events:out")
    event = json.loads(fields[b"event"])
    assert event["dataref"] == f"/v1/jobs/{job}"
    assert "result" not in event["data"]
    assert event["data"]["status"] == "succeeded"
