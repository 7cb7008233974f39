"""A job as an HTTP answer, in the type that was asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from contract.delivery import Delivery
from contract.errors import FuseboxError, NotAcceptable, decode_error
from contract.job import Job, JobSpec, Outcome
from contract.tensors import Tensors
from gateway.answer import JSON, Answer, Header, dumps, rfc3339
from gateway.explanations import explain
from gateway.numpy_files import write_npy, write_npz
from gateway.preferences import MSGPACK, NO_PREFERENCE, NPY, NPZ, Prefer, negotiate
from gateway.problems import problem

JOB_HEADER = "Fusebox-Job"
# Job records exist in these; arrays alone in the NumPy types, once there are some.
RECORD_TYPES = (JSON, MSGPACK)
RESULT_TYPES = (JSON, MSGPACK, NPZ, NPY)


def settled(spec: JobSpec, outcome: Outcome, media: str, prefer: Prefer) -> Answer:
    """The answer of a synchronous call."""
    if outcome.error is not None:
        return failed(spec, decode_error(outcome.error), outcome.timings_ms)
    if media in (NPY, NPZ):
        body = _array_file(outcome, media)
    else:
        record = {"job": spec.id, "function": spec.function, "version": spec.version}
        record |= _result(outcome, media)
        body = _dumps(record, media)
    return Answer(body, 200, media, _headers(spec, outcome.timings_ms, prefer))


def failed(spec: JobSpec, error: FuseboxError, timings_ms: Mapping[str, float]) -> Answer:
    """The problem that a synchronous call ends in, with the job it was."""
    answer = problem(error, f"/v1/jobs/{spec.id}", job_id=spec.id, function=str(spec.ref))
    return answer._replace(headers=answer.headers + _headers(spec, timings_ms, NO_PREFERENCE))


def accepted(job: Job, media: str, prefer: Prefer) -> Answer:
    """202: the job goes on without this request."""
    media = media if media in RECORD_TYPES else JSON
    location = ("Location", f"/v1/jobs/{job.spec.id}")
    headers = (location, *_headers(job.spec, {}, prefer))
    return Answer(_dumps(record_of(job, media), media), 202, media, headers)


def shown(job: Job, accept: str, deliveries: Sequence[Delivery] = ()) -> Answer:
    """200 with the record, or with the arrays alone where a NumPy type is asked for."""
    media = negotiate(accept, RESULT_TYPES)
    outcome = job.outcome
    timings_ms = outcome.timings_ms if outcome else {}
    if media in (NPY, NPZ):
        if outcome is None or outcome.outputs is None:
            media = negotiate(accept + ", application/json;q=0.001", RECORD_TYPES)
        elif media == NPY and len(outcome.outputs) != 1:
            raise NotAcceptable(f"Accept: {NPY} holds one tensor, got {len(outcome.outputs)}")
        else:
            body = _array_file(outcome, media)
            return Answer(body, 200, media, _headers(job.spec, timings_ms, NO_PREFERENCE))
    record = record_of(job, media) | {"explanation": explain(job, time.time())}
    if deliveries:
        record["deliveries"] = [delivery_record(delivery) for delivery in deliveries]
    body = _dumps(record, media)
    return Answer(body, 200, media, _headers(job.spec, timings_ms, NO_PREFERENCE))


def delivery_record(delivery: Delivery) -> dict[str, Any]:
    """A line of a job's delivery log, for people and their programs."""
    return {
        "destination": delivery.destination,
        "state": str(delivery.state),
        "attempts": delivery.attempts,
        "at": rfc3339(delivery.at_s) if delivery.at_s else None,
        "next_at": rfc3339(delivery.next_at_s) if delivery.next_at_s else None,
        "status": delivery.status or None,
        "error": delivery.error or None,
        "job": delivery.job or None,
    }


def record_of(job: Job, media: str) -> dict[str, Any]:
    """A job as it is shown."""
    spec = job.spec
    record: dict[str, Any] = {
        "job": spec.id,
        "function": spec.function,
        "version": spec.version,
        **({"alias": job.origin.alias} if job.origin.alias else {}),
        "status": str(job.status),
        "created_at": rfc3339(spec.accepted_at_s),
        "attempts": job.attempts,
    }
    if job.outcome is None:
        return record | {"timings_ms": {}}
    return record | _result(job.outcome, media)


def _result(outcome: Outcome, media: str) -> dict[str, Any]:
    """What an outcome adds to a record; tensors as arrays for JSON, as stored for msgpack."""
    record: dict[str, Any] = {}
    if outcome.error is not None:
        record["error"] = outcome.error
    elif outcome.outputs is not None:
        record["outputs"] = outcome.outputs if media == MSGPACK else _tensors(outcome.outputs)
    else:
        record["result"] = outcome.result
    record["timings_ms"] = outcome.timings_ms
    record["group"] = {"jobs": outcome.group_jobs, "functions": outcome.group_functions}
    return record


def value(outcome: Outcome) -> Any:
    """What a call came to, without anything around it: its result, or its outputs by name."""
    return outcome.result if outcome.outputs is None else _tensors(outcome.outputs)


def _tensors(outputs: Mapping[str, Any]) -> Tensors:
    """The arrays of stored outputs; whatever a worker wrote wrong is an internal error here."""
    return {
        name: np.frombuffer(record["data"], record["dtype"]).reshape(record["shape"])
        for name, record in outputs.items()
    }


def _array_file(outcome: Outcome, media: str) -> bytes:
    assert outcome.outputs is not None
    tensors = _tensors(outcome.outputs)
    if media == NPZ:
        return write_npz(tensors)
    (tensor,) = tensors.values()
    return write_npy(tensor)


def _dumps(record: Mapping[str, Any], media: str) -> bytes:
    if media == JSON:
        return dumps(record)
    packed = msgpack.packb(record)
    assert isinstance(packed, bytes)
    return packed


def _headers(spec: JobSpec, timings_ms: Mapping[str, float], prefer: Prefer) -> tuple[Header, ...]:
    headers: tuple[Header, ...] = (
        (JOB_HEADER, spec.id),
        ("Server-Timing", server_timing(timings_ms.items() or _elapsed(spec))),
    )
    if prefer.is_given:
        headers += (("Preference-Applied", prefer.applied()), ("Vary", "Accept, Prefer"))
    return headers


def server_timing(timings_ms: Iterable[tuple[str, float]]) -> str:
    """Stages as `queue;dur=1.25, swap;dur=0`, milliseconds."""
    return ", ".join([f"{stage};dur={ms:.6g}" for stage, ms in timings_ms])


def _elapsed(spec: JobSpec) -> list[tuple[str, float]]:
    """What can be said of a job that has not run: the time since it was accepted."""
    return [("total", max(0.0, (time.time() - spec.accepted_at_s) * 1000))]
