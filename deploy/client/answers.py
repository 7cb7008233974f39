"""Answers of the gateway: as records, as what a call gave, and as the errors they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from contract.errors import FuseboxError, RateLimited, StoreUnavailable, Unavailable, decode_error
from deploy.client.request import Lost, Reply
from deploy.errors import Unreachable

if TYPE_CHECKING:
    from contract.tensors import Tensor, Tensors

Record = dict[str, Any]  # an answer of the API: docs/http.md says what is in it

MSGPACK, JSON, PROBLEM = "application/msgpack", "application/json", "application/problem+json"
_OF_HTTP = frozenset({"type", "title", "status", "instance"})
_SETTLED = frozenset({"succeeded", "failed", "expired", "refused", "cancelled"})
# names of parameters, which members of a problem cannot have
_RESERVED = frozenset({"self", "detail"})


class Fault(NamedTuple):
    """Why a request has no answer, and whether the same request may get one later.

    `is_void`: the request is known to have done nothing. `after_s` is what the platform asks for.
    """

    error: FuseboxError
    is_passing: bool = False
    is_void: bool = False
    after_s: float | None = None


def fault_of(heard: Reply | Lost, url: str) -> Fault | None:
    """What is wrong with an answer; None where it is good."""
    if isinstance(heard, Lost):
        return Fault(heard.error, is_passing=True, is_void=not heard.was_sent)
    if 200 <= heard.status < 300:
        return None
    error = _problem(heard) or _foreign(heard, url)
    after_s = _after_s(heard, error)
    if heard.status == 429:
        return Fault(error, is_passing=True, is_void=True, after_s=after_s)
    if isinstance(error, Unreachable):
        return Fault(error, is_passing=True, after_s=after_s)
    # of a job that was accepted, a 503 is the outcome, unless nobody could look the job up
    is_open = "job_id" not in error.extensions or isinstance(error, StoreUnavailable)
    is_passing = heard.status == 503 and isinstance(error, Unavailable) and is_open
    return Fault(error, is_passing, after_s=after_s)


def read_record(reply: Reply, url: str) -> Record:
    """The record of a good answer; raises FuseboxError where something else came."""
    media = reply.headers.get("content-type", "").partition(";")[0].strip()
    record = _unpacked(reply.body) if media == MSGPACK else _parsed(reply.body)
    if not isinstance(record, dict):
        raise _foreign(reply, url)
    return record


def is_settled(job: Record) -> bool:
    """Whether a job's record is final; the answer of a synchronous call has no status and is."""
    return "status" not in job or job["status"] in _SETTLED


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a call gave: `outputs` by name, or the `result` of a function with `postprocess`.

    `timings_ms` has the stages that docs/http.md describes, `group` the jobs and functions that
    it ran with.
    """

    job: str
    function: str
    version: int
    outputs: Tensors
    result: Any
    timings_ms: Mapping[str, float]
    group: Mapping[str, Any]

    @classmethod
    def of(cls, record: Record) -> Answer:
        """The answer in a settled job's record; raises the error that the job ended with."""
        missing = [key for key in ("job", "function", "version", "timings_ms") if key not in record]
        if missing:
            raise FuseboxError(f"answer: expected the record of a job, got none of {missing}")
        if "error" in record:
            raise _job_error(record)
        outputs = {name: _tensor(name, value) for name, value in record.get("outputs", {}).items()}
        return cls(
            record["job"],
            record["function"],
            record["version"],
            outputs,
            record.get("result"),
            record["timings_ms"],
            record.get("group", {}),
        )

    def __getitem__(self, name: str) -> Any:
        """An output by its name, or a member of the result."""
        return self.outputs[name] if self.outputs else self.result[name]

    @property
    def output(self) -> Tensor:
        """The one output of a function that has a single one; raises ValueError otherwise."""
        if len(self.outputs) != 1:
            names = ", ".join(self.outputs) or "none"
            raise ValueError(f"outputs of {self.function}: expected one, got {names}")
        (tensor,) = self.outputs.values()
        return tensor


def _job_error(record: Record) -> FuseboxError:
    """The error of a settled job, with the job's id."""
    members = {"job_id": record["job"], "function": f"{record['function']}@{record['version']}"}
    return _decoded(members | record["error"]) or FuseboxError(str(record["error"])[:200])


def _tensor(name: str, value: object) -> Tensor:
    import numpy as np

    from contract.tensors import decode_tensor

    if isinstance(value, dict):
        tensor = decode_tensor(f"outputs.{name}", value)
        # a copy, for what arrives cannot be written to; in the machine's own byte order
        return tensor.astype(tensor.dtype.newbyteorder("="))
    return np.asarray(value)


def _problem(reply: Reply) -> FuseboxError | None:
    if not reply.headers.get("content-type", "").startswith(PROBLEM):
        return None
    record = _parsed(reply.body)
    if not isinstance(record, dict):
        return None
    return _decoded({key: value for key, value in record.items() if key not in _OF_HTTP})


def _decoded(record: Record) -> FuseboxError | None:
    """The error of a problem's members, or None where they are not those of one."""
    code, detail = record.get("code"), record.get("detail")
    if not isinstance(code, str) or not isinstance(detail, str):
        return None
    members = {key: value for key, value in record.items() if key not in _RESERVED}
    return decode_error(members | {"code": code, "detail": detail})


def _foreign(reply: Reply, url: str) -> FuseboxError:
    """Something between, or another server, has answered."""
    says = f"{url} answers {reply.status} {reply.reason}".strip()
    if reply.status in (502, 503, 504):
        return Unreachable(says, url=url)
    if reply.status == 429:
        return RateLimited(says, url=url)
    return FuseboxError(f"{says}, not as a Fusebox does; is FUSEBOX_URL right?")


def _after_s(reply: Reply, error: FuseboxError) -> float | None:
    """Seconds that the platform asks to wait for."""
    exact_ms = error.extensions.get("retry_after_ms")
    if isinstance(exact_ms, int | float) and not isinstance(exact_ms, bool) and exact_ms >= 0:
        return exact_ms / 1000
    return retry_after_s(reply.headers.get("retry-after", ""), reply.headers.get("date", ""))


def retry_after_s(retry_after: str, date: str) -> float | None:
    """Seconds of a Retry-After: a number, or a moment, which counts from the answer's own Date."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    if not text or not date:
        return None
    from email.utils import parsedate_to_datetime

    try:
        gap = parsedate_to_datetime(text) - parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None  # no date of HTTP: as if it were not there
    return max(0.0, gap.total_seconds())


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _unpacked(body: bytes) -> Any:
    import msgpack

    try:
        return msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, msgpack.UnpackException):
        return None
