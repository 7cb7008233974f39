"""A function told of the end of a job: the result becomes its input."""

from __future__ import annotations

from typing import Any

import msgpack

from contract.destinations import Destination
from contract.errors import (
    FuseboxError,
    NotFound,
    QueueFull,
    RequestError,
    Unavailable,
    WaitTooLong,
)
from contract.function import Function, FunctionRef, Manifest
from contract.job import Outcome
from contract.origin import MAX_DEPTH, Origin
from contract.store.jobs import AlreadyAccepted
from gateway.answer import JSON, dumps
from gateway.bodies import Payload, read_payload
from gateway.calls import Call, submit
from gateway.context import Gateway
from gateway.delivery.claims import own_claim
from gateway.delivery.formats import STRUCTURED, End, encoded, event_of
from gateway.delivery.retry import Attempt
from gateway.job_answers import record_of
from gateway.preferences import MSGPACK


def call_function(gateway: Gateway, destination: Destination, end: End) -> Attempt:
    """Make the call, once however often this is repeated."""
    job = end.job
    depth = job.origin.depth + 1
    if depth > MAX_DEPTH:
        return Attempt(error=f"a chain of more than {MAX_DEPTH} calls", is_lasting=True)

    def read(function: Function) -> Payload:
        content_type, body = body_of(end, function.manifest)
        max_bytes = gateway.settings.max_body_bytes
        return read_payload(function.manifest, content_type, body, max_bytes)

    origin = Origin(
        traceparent=job.origin.traceparent,
        tracestate=job.origin.tracestate,
        cause=f"job:{job.spec.id}",
        depth=depth,
        is_kept=True,
    )
    claim = own_claim("delivery", job.spec.id, destination.text).text
    try:
        ref = FunctionRef.parse(destination.target)
        made = submit(gateway, Call(ref, read, job.spec.priority, claim, origin=origin))
    except AlreadyAccepted as error:
        return Attempt(job=error.job)
    except (QueueFull, WaitTooLong, Unavailable) as error:
        after_ms = error.extensions.get("retry_after_ms")
        after_s = None if after_ms is None else after_ms / 1000
        return Attempt(error=_why(error), retry_after_s=after_s)
    except (RequestError, NotFound) as error:
        return Attempt(error=_why(error), is_lasting=True)
    return Attempt(job=made.spec.id)


def _why(error: FuseboxError) -> str:
    return f"{error.code}: {error.detail}"


def body_of(end: End, manifest: Manifest) -> tuple[str, bytes]:
    """What the function is called with: the job's result, or the event of an end without one.

    Tensors go from outputs to inputs of the same names, or from the one to the one; a function
    with a preprocess gets JSON.
    """
    outcome = end.job.outcome
    assert outcome is not None
    if outcome.error is not None:
        return STRUCTURED, encoded(event_of(end))
    if manifest.has_preprocess:
        record = record_of(end.job, JSON)
        return JSON, dumps(record["result"] if "result" in record else _named(record))
    if outcome.outputs is None:
        return JSON, dumps({"inputs": _inputs(outcome.result, manifest)})
    packed = msgpack.packb({"inputs": _tensors(outcome, manifest)})
    assert isinstance(packed, bytes)
    return MSGPACK, packed


def _named(record: dict[str, Any]) -> dict[str, Any]:
    return {"outputs": record["outputs"]}


def _tensors(outcome: Outcome, manifest: Manifest) -> dict[str, Any]:
    outputs = dict(outcome.outputs or {})
    names = [spec.name for spec in manifest.inputs]
    if len(outputs) == len(names) == 1:
        return dict(zip(names, outputs.values(), strict=True))
    # what the function does not take is left out; what it lacks, it says itself
    return {name: tensor for name, tensor in outputs.items() if name in names}


def _inputs(result: Any, manifest: Manifest) -> Any:
    """Inputs by name from what a postprocess returned."""
    if isinstance(result, dict):
        return result["inputs"] if result.keys() == {"inputs"} else result
    if len(manifest.inputs) == 1:
        return {manifest.inputs[0].name: result}
    return result
