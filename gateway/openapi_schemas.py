"""The schemas of the OpenAPI description (JSON Schema 2020-12)."""

from __future__ import annotations

from dataclasses import fields

from contract.access import MAX_LIFE_S, MAX_NAME_CHARS, RATE, Scope
from contract.errors import BY_CODE
from contract.function import Manifest
from contract.job import SETTLED, TIMINGS, Status
from contract.store.wanted import Progress, WantReport
from contract.store.workers import DagCacheReport, FunctionMemory, WorkerReport
from contract.tensors import DTYPES
from gateway.openapi_aliases import OF_A_FUNCTION, alias_schemas
from gateway.openapi_deliveries import DEAD_LETTERS, DELIVERY
from gateway.openapi_explanation import EXPLANATION, GROUP_RUN
from gateway.openapi_json import COUNT as _COUNT
from gateway.openapi_json import FLAG as _FLAG
from gateway.openapi_json import MAP_OF_COUNTS as _MAP_OF_COUNTS
from gateway.openapi_json import NUMBER as _NUMBER
from gateway.openapi_json import OPTIONAL as _OPTIONAL
from gateway.openapi_json import STRING as _STRING
from gateway.openapi_json import Schema
from gateway.openapi_json import list_of as _list
from gateway.openapi_json import map_of as _map_of
from gateway.openapi_json import object_of as _object

_TIME: Schema = {"type": "string", "format": "date-time"}
_TIER: Schema = {"type": "string", "enum": ["device", "host", "disk"]}
_PROGRESS: Schema = {"type": "string", "enum": [str(each) for each in Progress]}
_TIMES: Schema = {"type": "object", "additionalProperties": _NUMBER}
_MAP_OF_TIMES: Schema = {"type": "object", "additionalProperties": _TIMES}
_OF_ANNOTATION = {
    "str": _STRING,
    "int": _COUNT,
    "float": _NUMBER,
    "bool": _FLAG,
    "float | None": _OPTIONAL,
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _of_record(record: type, special: Schema) -> Schema:
    """The properties of a dataclass; `special` names those that are not plain."""
    return {
        field.name: special.get(field.name) or _OF_ANNOTATION[str(field.type)]
        for field in fields(record)
    }


_TENSOR_SPEC = _object(
    {
        "name": _STRING,
        "dtype": {"type": "string", "enum": list(DTYPES)},
        "shape": _list({"type": ["integer", "null"], "description": "null stands for rows"}),
    }
)
_TIMINGS: Schema = {
    "type": "object",
    "description": "Milliseconds by stage; empty before the job has run.",
    "properties": dict.fromkeys(TIMINGS, _NUMBER),
}
_GROUP = _object({"jobs": _COUNT, "functions": _COUNT})
_OUTCOME: Schema = {
    "outputs": {
        "type": "object",
        "description": "Tensors by name, as nested lists, rows first; NaN and infinities are null. "
        "In msgpack maps of dtype, shape and data (little-endian, row-major).",
    },
    "result": {"description": "What postprocess returned."},
    "error": _object({"code": _STRING, "detail": _STRING}),
    "timings_ms": _TIMINGS,
    "group": _GROUP,
}


_SCOPES = _list({"type": "string", "enum": [str(scope) for scope in Scope]})
_API_KEY: Schema = {
    "id": _STRING,
    "name": _STRING,
    "scopes": _SCOPES,
    "rate": {"type": ["string", "null"]},
    "created_at": _TIME,
    "expires_at": {"type": ["string", "null"], "format": "date-time"},
    "last_used_at": {"type": ["string", "null"], "format": "date-time"},
}
_KEY_WISH: Schema = {
    "name": _STRING | {"maxLength": MAX_NAME_CHARS, "default": ""},
    "scopes": _SCOPES | {"minItems": 1, "default": [str(Scope.INVOKE)]},
    "rate": _STRING | {"pattern": f"^{RATE.pattern}$"},
    "expires_in_s": _NUMBER | {"exclusiveMinimum": 0, "maximum": MAX_LIFE_S},
}


def _blocks() -> Schema:
    return _object(
        {
            "block_bytes": _list(_COUNT),
            "ring_bytes": _COUNT,
            "resident_bytes": _COUNT,
            "is_measured": _FLAG,
        }
    )


def _function() -> Schema:
    spec = _list(_ref("TensorSpec"))
    lanes = _list(_list(_STRING))
    group = _object({"strategy": _STRING, "measured_ms": _TIMES, "lanes": lanes})
    special = {
        "inputs": spec,
        "outputs": spec,
        "activation_bytes": _MAP_OF_COUNTS,
        "slo_ms": _OPTIONAL,
        "keep_alive_s": _OPTIONAL,
        "row_buckets": _list(_COUNT),
        "on_success": _list(_STRING),
        "on_failure": _list(_STRING),
    }
    execution = {
        "tiers": _MAP_OF_TIMES,
        "groups": _map_of(group),
        "threads": _COUNT,
        "row_ceiling": {"type": ["integer", "null"]},
        "blocks": _blocks(),
    }
    own = {
        "name": _STRING,
        "version": _COUNT,
        "tier": _TIER,
        "created_at": _TIME,
        "digest": _STRING,
        "versions": _list(_COUNT),
        "aliases": OF_A_FUNCTION,
        "execution": _object(execution, optional=("blocks",)),
        # of a function that no worker holds as a whole: the bytes in which it runs in blocks
        "blocks_budget_bytes": _COUNT,
    }
    optional = ("versions", "execution", "blocks_budget_bytes")
    return _object(own | _of_record(Manifest, special), optional=optional)


def _stats() -> Schema:
    jobs = {str(status): _COUNT for status in SETTLED}
    function = _object(
        {
            "name": _STRING,
            "version": _COUNT,
            "tier": _TIER,
            "weight_bytes": _COUNT,
            "slo_ms": _OPTIONAL,
            "queued": {"type": "integer"},
            "jobs": _object(jobs),
            "rows": _COUNT,
            "groups": _COUNT,
            "cold": _COUNT,
            "p50_ms": _OPTIONAL,
            "p99_ms": _OPTIONAL,
            "latency": _list(_COUNT),
            "stages_ms": _object(dict.fromkeys(TIMINGS, _NUMBER)),
            "late": _COUNT,
            "violations": _COUNT,
            "refusals": _MAP_OF_COUNTS,
            "answered_per_s": _OPTIONAL,
            "goodput_per_s": _OPTIONAL,
            "latency_ms": _OPTIONAL,
            "utility": _OPTIONAL,
        }
    )
    scheduling = _object(
        {
            "policy": _STRING,
            "decisions": _COUNT,
            "dispatches": _COUNT,
            "decision_p50_ms": _OPTIONAL,
            "decision_p99_ms": _OPTIONAL,
        }
    )
    totals = {str(status): {"type": "integer"} for status in Status}
    return _object(
        {
            "at_s": _NUMBER,
            "functions": _list(function),
            "jobs": _object({"accepted": _COUNT, **totals, "drift": {"type": "integer"}}),
            "latency_bounds_s": _list(_NUMBER),
            "dag_cache": _ref("DagCache"),
            "loads": _COUNT,
            "evictions": _COUNT,
            "counters": _MAP_OF_COUNTS,
            "scheduling": scheduling | {"type": ["object", "null"]},
            "prediction_error": _map_of(
                _object({"median": _NUMBER, "p90": _NUMBER, "groups": _COUNT})
            ),
        }
    )


def _problem() -> Schema:
    about = "Stable; of the error tree: " + ", ".join(BY_CODE)
    own = {
        "type": {"type": "string", "format": "uri-reference"},
        "title": _STRING,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _STRING,
        "instance": {"type": "string", "format": "uri-reference"},
        "code": _STRING | {"description": about},
    }
    extra = {
        "job_id": _STRING,
        "function": _STRING,
        "retry_after_ms": _COUNT,
        "field": _STRING,
        "expected": _STRING,
        "actual": _STRING,
        "missing": _list(_STRING),
        "accepted": _list(_STRING),
    }
    return _object(own | extra, optional=tuple(extra))


def _worker() -> Schema:
    special = {
        "functions": _MAP_OF_COUNTS | {"description": "NAME@VERSION of residents, and their bytes"},
        "hosted": _list(_STRING),
        "dag_cache": _ref("DagCache"),
        "strategies": _map_of(_STRING),
        "measured": _MAP_OF_TIMES,
        "lanes": _map_of(_list(_list(_STRING))),
        "tiers": _map_of(_MAP_OF_TIMES),
        "groups": _list(_STRING),
        "memory": _map_of(_ref("FunctionMemory")),
        "row_ceilings": _map_of(_COUNT),
        "blocks": _map_of(_blocks()),
        "wanted": _map_of(_object(_of_record(WantReport, {"progress": _PROGRESS}))),
    }
    return _object(_of_record(WorkerReport, special))


def schemas() -> Schema:
    """Every schema, by name."""
    identity = {"job": _STRING, "function": _STRING, "version": _COUNT}
    state = {
        "status": {"type": "string", "enum": [str(status) for status in Status]},
        "created_at": _TIME,
        "attempts": _COUNT,
        # by which its version was chosen
        "alias": _STRING,
    }
    line = {"at": _TIME, "version": _COUNT, "job": _STRING, "level": _STRING, "text": _STRING}
    tensor = {
        "dtype": {"type": "string", "enum": list(DTYPES)},
        "shape": _list(_COUNT),
        "data": {"type": "string", "format": "binary"},
    }
    packed = {"type": "object", "additionalProperties": _object(tensor)}
    nested = {
        "type": "object",
        "description": "Nested lists by input name, rows first. The whole body is the payload of a "
        "function with a preprocess.",
    }
    return {
        "Inputs": _object({"inputs": nested}),
        "PackedInputs": _object({"inputs": packed}),
        "Result": _object(identity | _OUTCOME, optional=("outputs", "result", "error")),
        "Job": _object(
            identity
            | state
            | _OUTCOME
            | {"explanation": EXPLANATION, "deliveries": _list(DELIVERY)},
            optional=(
                "outputs",
                "result",
                "error",
                "group",
                "explanation",
                "alias",
                "deliveries",
            ),
        ),
        "TensorSpec": _TENSOR_SPEC,
        "Function": _function(),
        **alias_schemas(),
        "Functions": _object({"functions": _list(_ref("Function"))}),
        "Removed": _object({"name": _STRING, "removed_versions": _list(_COUNT)}),
        "Loading": _object(
            {
                "name": _STRING,
                "version": _COUNT,
                "state": {
                    "type": "string",
                    "enum": ["loaded", "loading", "unloaded", "unloading"],
                },
                "workers": _map_of(_PROGRESS),
            }
        ),
        "Log": _object({"lines": _list(_object(line))}),
        "FunctionGraph": _object(
            {
                "name": _STRING,
                "version": _COUNT,
                "architecture": _STRING,
                "graph": {"type": "object", "description": "`graph.json`: docs/fusion.md."},
                "weights": _map_of(_STRING),
            }
        ),
        "Worker": _worker(),
        "Workers": _object({"workers": _list(_ref("Worker"))}),
        "DagCache": _object(_of_record(DagCacheReport, {})),
        "FunctionMemory": _object(_of_record(FunctionMemory, {"tier": _TIER})),
        "Groups": _object({"groups": _list(GROUP_RUN)}),
        "Stats": _stats(),
        **DEAD_LETTERS,
        "ApiKey": _object(_API_KEY),
        "NewApiKey": _object(_API_KEY | {"key": _STRING, "aws_secret_access_key": _STRING}),
        "ApiKeys": _object({"keys": _list(_ref("ApiKey"))}),
        "KeyWish": _object(_KEY_WISH, optional=tuple(_KEY_WISH)) | {"additionalProperties": False},
        "Status": _object({"status": _STRING}),
        "Problem": _problem(),
    }
