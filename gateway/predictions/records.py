"""Jobs as predictions, and functions as models, in the members that clients read."""

from __future__ import annotations

from typing import Any

from contract.errors import decode_error
from contract.function import Function
from contract.job import JobSpec, Outcome, Status
from contract.tensors import TensorSpec
from gateway.answer import rfc3339
from gateway.job_answers import value

Record = dict[str, Any]
# models have owners where these clients come from; here all have this one
OWNER = "fusebox"
STARTING, PROCESSING, SUCCEEDED, FAILED, CANCELED = (
    "starting",
    "processing",
    "succeeded",
    "failed",
    "canceled",
)
_STATUS = {
    Status.QUEUED: STARTING,
    Status.RUNNING: PROCESSING,
    Status.SUCCEEDED: SUCCEEDED,
    Status.CANCELLED: CANCELED,
}
_KINDS = {"bool": "boolean", "float16": "number", "float32": "number", "float64": "number"}


def prediction(spec: JobSpec, status: Status, outcome: Outcome | None, given: Any = None) -> Record:
    """A job as a prediction; its input is there while somebody has it at hand."""
    path = f"/v1/predictions/{spec.id}"
    record: Record = {
        "id": spec.id,
        "model": f"{OWNER}/{spec.function}",
        "version": str(spec.ref),
        "status": _STATUS.get(status, FAILED),
        "input": given,
        "output": None,
        "error": None,
        "logs": "",
        "metrics": {},
        "created_at": rfc3339(spec.accepted_at_s),
        "started_at": None,
        "completed_at": None,
        "source": "api",
        "urls": {"get": path, "cancel": f"{path}/cancel"},
    }
    return record if outcome is None else record | _ended(spec, outcome)


def _ended(spec: JobSpec, outcome: Outcome) -> Record:
    times_s = {stage: ms / 1000 for stage, ms in outcome.timings_ms.items()}
    record: Record = {}
    if "total" in times_s:
        # whatever came before its own work was waiting
        waited_s = times_s.get("queue", 0.0) + times_s.get("group", 0.0)
        total_s = times_s["total"]
        record["started_at"] = rfc3339(spec.accepted_at_s + waited_s)
        record["completed_at"] = rfc3339(spec.accepted_at_s + total_s)
        record["metrics"] = {"predict_time": total_s - waited_s, "total_time": total_s}
    if outcome.status is Status.CANCELLED:
        return record
    if outcome.error is not None:
        return record | {"error": decode_error(outcome.error).detail}
    return record | {"output": value(outcome)}


def model(function: Function, runs: int) -> Record:
    """A function as a model, with its latest version."""
    return {
        "url": f"/v1/models/{OWNER}/{function.name}",
        "owner": OWNER,
        "name": function.name,
        "description": None,
        "visibility": "private",
        "run_count": runs,
        "latest_version": version(function),
    }


def version(function: Function) -> Record:
    """A version; its id says which function it is of, as calls by a version say nothing else."""
    return {
        "id": str(function.ref),
        "created_at": rfc3339(function.created_at_s),
        "cog_version": "",
        "openapi_schema": {
            "openapi": "3.1.0",
            "info": {"title": function.name, "version": str(function.version)},
            "paths": {},
            "components": {"schemas": {"Input": _input(function), "Output": _output(function)}},
        },
    }


def _input(function: Function) -> Record:
    if function.manifest.has_preprocess:
        return {"type": "object", "title": "Input"}
    return {
        "type": "object",
        "title": "Input",
        "properties": {spec.name: _nested(spec) for spec in function.manifest.inputs},
        "required": [spec.name for spec in function.manifest.inputs],
    }


def _output(function: Function) -> Record:
    if function.manifest.has_postprocess:
        return {"title": "Output"}
    outputs = {spec.name: _nested(spec) for spec in function.manifest.outputs}
    return {"type": "object", "title": "Output", "properties": outputs}


def _nested(spec: TensorSpec) -> Record:
    schema: Record = {"type": _KINDS.get(spec.dtype, "integer")}
    for _ in spec.shape:
        schema = {"type": "array", "items": schema}
    return schema | {"description": f"{spec.dtype} of shape {spec.describe_shape()}"}
