"""A job: one call of a function. Its immutable spec, its status, its outcome."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, NewType

import msgpack

from contract.errors import FuseboxError
from contract.function import FunctionRef
from contract.origin import NOWHERE, Origin
from contract.trail import Trail

JobId = NewType("JobId", str)
JOB_ID_CHARS = 24
# Payload of a function without hooks: named tensors as `tensors.pack_tensors` writes them.
TENSORS = "application/vnd.fusebox.tensors"
# Of jobs; 0 unless their caller asks for more.
MAX_PRIORITY = 9
# what a job waited for, milliseconds each: a place and the device; others of its group; weights;
# the fused DAG; its run; its function's own code. All of them add up to the total.
TIMINGS = ("queue", "group", "swap", "build", "compute", "hooks", "total")


class Status(StrEnum):
    """Where a job is; only the scripts of the store change it."""

    QUEUED = "queued"  # accepted, in the pending stream, held by nobody
    RUNNING = "running"  # a worker holds its lease
    SUCCEEDED = "succeeded"  # has outputs or a result
    FAILED = "failed"  # has an error: the function's, the input's, or worker_lost
    EXPIRED = "expired"  # its deadline passed before it was computed
    REFUSED = "refused"  # its deadline could not be met any more, so nobody tried
    CANCELLED = "cancelled"  # its caller gave it up before it had a result

    @property
    def is_settled(self) -> bool:
        """Whether the status is final."""
        return self not in (Status.QUEUED, Status.RUNNING)


SETTLED = tuple(status for status in Status if status.is_settled)


def new_job_id(now_s: float | None = None) -> JobId:
    """24 hex digits that sort by time: 12 of milliseconds, 12 random."""
    now_ms = int((time.time() if now_s is None else now_s) * 1000)
    return JobId(f"{now_ms:012x}{secrets.token_hex(6)}")


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is fixed when a job is accepted. Times are Unix seconds."""

    id: JobId
    function: str
    version: int
    rows: int
    accepted_at_s: float
    # when the function should have answered (slo_ms); orders jobs
    due_at_s: float
    # when an answer is worthless (timeout_ms); expires jobs
    deadline_s: float
    # media type of the payload, TENSORS where the gateway has checked and packed the inputs
    payload_type: str
    # 0 to MAX_PRIORITY, higher first
    priority: int = 0

    @property
    def ref(self) -> FunctionRef:
        """The version this job was accepted for."""
        return FunctionRef(self.function, self.version)

    def encode(self) -> bytes:
        """msgpack array in field order."""
        return _pack(
            [
                self.id,
                self.function,
                self.version,
                self.rows,
                self.accepted_at_s,
                self.due_at_s,
                self.deadline_s,
                self.payload_type,
                self.priority,
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> JobSpec:
        """The spec of `encode`."""
        return cls(*msgpack.unpackb(data))


class Submission(NamedTuple):
    """A job to accept; `is_latest`: the client asked for the latest version, not for this one."""

    spec: JobSpec
    payload: bytes
    is_latest: bool
    # the gateway that waits for the answer, or ""
    waiter: str
    # `IdempotencyClaim.text`, or "" without an idempotency key
    claim: str = ""
    origin: Origin = NOWHERE


class IdempotencyClaim(NamedTuple):
    """What a request with an idempotency key asks the store; both are SHA-256 in hexadecimal."""

    # of whose key it is, the function's name and the key
    digest: str
    # of what must be the same for two requests to be one
    fingerprint: str

    @property
    def text(self) -> str:
        """As submissions carry it: digest, then fingerprint."""
        return self.digest + self.fingerprint


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended. Exactly one of outputs, result and error is meant by the status."""

    status: Status
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    # named tensors as {dtype, shape, data}, of a function without postprocess
    outputs: Mapping[str, Any] | None = None
    # what postprocess returned
    result: Any = None
    error: Mapping[str, Any] | None = None
    # jobs and functions of the group it ran in; 0 when it never ran
    group_jobs: int = 0
    group_functions: int = 0

    @classmethod
    def of_error(
        cls, error: FuseboxError, status: Status = Status.FAILED, **fields: Any
    ) -> Outcome:
        """The outcome of a job that ended with this error."""
        return cls(status, error=error.encode(), **fields)

    def encode(self) -> bytes:
        """msgpack array in field order."""
        return _pack(
            [
                str(self.status),
                self.timings_ms,
                self.outputs,
                self.result,
                self.error,
                self.group_jobs,
                self.group_functions,
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Outcome:
        """The outcome of `encode`."""
        status, *rest = msgpack.unpackb(data)
        return cls(Status(status), *rest)


class Job(NamedTuple):
    """A job as the store holds it."""

    spec: JobSpec
    status: Status
    attempts: int
    outcome: Outcome | None
    trail: Trail = Trail()
    origin: Origin = NOWHERE


class Claim(NamedTuple):
    """The right to run a job: writes under an older fence are void."""

    job: JobId
    fence: int


def _pack(value: Any) -> bytes:
    packed = msgpack.packb(value)
    assert isinstance(packed, bytes)
    return packed
