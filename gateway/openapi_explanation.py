"""The schemas of why a job waited and of the groups that ran."""

from __future__ import annotations

from contract.job import TIMINGS
from gateway.openapi_json import (
    COUNT,
    FLAG,
    MAP_OF_COUNTS,
    NUMBER,
    STRING,
    Schema,
    list_of,
    object_of,
)

_MEMBER = object_of({"function": STRING, "version": COUNT, "rows": COUNT})
_GROUP: Schema = {
    "id": STRING,
    "worker": STRING,
    "jobs": COUNT,
    "members": list_of(_MEMBER),
    "strategies": list_of(STRING),
    "predicted_ms": NUMBER,
    "measured_ms": NUMBER,
    "swap_ms": NUMBER,
    "build_ms": NUMBER,
    "compute_ms": NUMBER,
    "taken_at_s": NUMBER,
    "began_at_s": NUMBER,
    "ended_at_s": NUMBER,
}
_WAITED = {
    "jobs_ahead": COUNT,
    "own_jobs_ahead": COUNT,
    "jobs_before": COUNT,
    "functions_before": MAP_OF_COUNTS,
    "is_at_least": FLAG,
}
GROUP_RUN = object_of(_GROUP)
EXPLANATION: Schema = object_of(
    {
        "sentence": STRING,
        "longest": {"type": "string", "enum": [stage for stage in TIMINGS if stage != "total"]},
        "queue": object_of(_WAITED, optional=tuple(_WAITED)),
        "predicted_ms": NUMBER,
        # of a job that runs, id and worker alone
        "group": object_of(_GROUP, optional=tuple(_GROUP)),
        "reason": STRING,
        "refused": object_of({"why": STRING, "earliest_end_s": NUMBER, "deadline_s": NUMBER}),
        "is_late": FLAG,
    },
    optional=("longest", "predicted_ms", "group", "reason", "refused", "is_late"),
) | {"description": "Why it waited, and why it was refused; not in a 202."}
