"""The one error tree of the platform.

FuseboxError                      internal               500
├── RequestError                  bad_request            400
│   ├── MalformedBody             malformed_body         400
│   ├── DigestMismatch            digest_mismatch        400
│   ├── NotAcceptable             not_acceptable         406
│   ├── RequestTimeout            request_timeout        408
│   ├── PayloadTooLarge           payload_too_large      413
│   ├── UnsupportedMediaType      unsupported_media_type 415
│   ├── InvalidInput              invalid_input          422
│   ├── IdempotencyKeyReused      idempotency_key_reused 422
│   └── InvalidArtifact           invalid_artifact       422
├── Unauthorized                  unauthorized           401
├── Forbidden                     forbidden              403
├── NotFound                      not_found              404
│   ├── UnknownFunction           unknown_function       404
│   ├── UnknownAlias              unknown_alias          404
│   ├── UnknownJob                unknown_job            404
│   ├── UnknownKey                unknown_key            404
│   ├── UnknownLetter             unknown_letter         404
│   └── UnknownTrigger            unknown_trigger        404
├── AliasInUse                    alias_in_use           409
├── TriggerExists                 trigger_exists         409
├── JobSettled                    job_settled            409
├── JobCancelled                  job_cancelled          409
├── QueueFull                     queue_full             429
├── RateLimited                   rate_limited           429
├── WaitTooLong                   wait_too_long          429
├── FunctionFailed                function_failed        500
│   ├── HandlerFailed             handler_failed         500
│   ├── HandlerTimeout            handler_timeout        500
│   └── WorkerLost                worker_lost            500
├── OutOfMemory                   out_of_memory          507
├── StorageFull                   storage_full           507
├── Unavailable                   unavailable            503
│   ├── ArtifactUnavailable       artifact_unavailable   503
│   ├── StoreUnavailable          store_unavailable      503
│   └── DeadlineUnmeetable        deadline_unmeetable    503
└── DeadlineExceeded              deadline_exceeded      504

Every class carries a stable `code` and an `http_status`; its docstring is the default message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class FuseboxError(Exception):
    """Something went wrong inside Fusebox; the log has the details."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500

    def __init__(self, detail: str | None = None, **extensions: Any) -> None:
        self.detail = detail or str(type(self).__doc__)
        self.extensions = extensions
        super().__init__(self.detail)

    def encode(self) -> dict[str, Any]:
        """The error as a job's outcome stores it."""
        return {"code": self.code, "detail": self.detail, **self.extensions}


class RequestError(FuseboxError):
    """The request cannot be understood."""

    code, http_status = "bad_request", 400


class MalformedBody(RequestError):
    """The body is not what its Content-Type says."""

    code = "malformed_body"


class DigestMismatch(RequestError):
    """The body's digest differs from the one announced."""

    code = "digest_mismatch"


class NotAcceptable(RequestError):
    """The answer exists in none of the types that Accept asks for."""

    code, http_status = "not_acceptable", 406


class RequestTimeout(RequestError):
    """The client took too long to send its request."""

    code, http_status = "request_timeout", 408


class PayloadTooLarge(RequestError):
    """The body is larger than this gateway takes."""

    code, http_status = "payload_too_large", 413


class UnsupportedMediaType(RequestError):
    """The function does not take bodies of this Content-Type."""

    code, http_status = "unsupported_media_type", 415


class InvalidInput(RequestError):
    """A field of the input is not what the function expects."""

    code, http_status = "invalid_input", 422

    @classmethod
    def of(cls, field: str, expected: str, actual: str) -> InvalidInput:
        """Name the field, what was expected of it and what came."""
        return cls(
            f"{field}: expected {expected}, got {actual}",
            field=field,
            expected=expected,
            actual=actual,
        )


class IdempotencyKeyReused(RequestError):
    """This Idempotency-Key belongs to another request."""

    code, http_status = "idempotency_key_reused", 422


class InvalidArtifact(RequestError):
    """The artifact is not a valid function version."""

    code, http_status = "invalid_artifact", 422


class Unauthorized(FuseboxError):
    """This needs an API key."""

    code, http_status = "unauthorized", 401


class Forbidden(FuseboxError):
    """The API key has not the scope that this needs."""

    code, http_status = "forbidden", 403


class NotFound(FuseboxError):
    """There is nothing here."""

    code, http_status = "not_found", 404


class UnknownFunction(NotFound):
    """No function of this name and version is deployed."""

    code = "unknown_function"


class UnknownAlias(NotFound):
    """The function has no alias of this name."""

    code = "unknown_alias"


class UnknownJob(NotFound):
    """No job has this id; results are kept for a limited time."""

    code = "unknown_job"


class UnknownKey(NotFound):
    """No API key has this id."""

    code = "unknown_key"


class AliasInUse(FuseboxError):
    """An alias points to this version, so it stays deployed."""

    code, http_status = "alias_in_use", 409


class UnknownLetter(NotFound):
    """No dead letter has this id; they are kept for a limited time."""

    code = "unknown_letter"


class UnknownTrigger(NotFound):
    """No trigger has this name."""

    code = "unknown_trigger"


class TriggerExists(FuseboxError):
    """There is a trigger of this name; remove it first."""

    code, http_status = "trigger_exists", 409


class JobSettled(FuseboxError):
    """The job has settled already and cannot be cancelled."""

    code, http_status = "job_settled", 409


class JobCancelled(FuseboxError):
    """The job was cancelled before it had a result."""

    code, http_status = "job_cancelled", 409


class QueueFull(FuseboxError):
    """Too many jobs wait; try again later."""

    code, http_status = "queue_full", 429


class RateLimited(FuseboxError):
    """This API key asks more often than its rate allows."""

    code, http_status = "rate_limited", 429


class WaitTooLong(FuseboxError):
    """So many jobs wait that this one would pass its deadline; try again later."""

    code, http_status = "wait_too_long", 429


class FunctionFailed(FuseboxError):
    """The function's graph failed on this input."""

    code, http_status = "function_failed", 500


class HandlerFailed(FunctionFailed):
    """The function's own preprocess or postprocess failed."""

    code = "handler_failed"


class HandlerTimeout(FunctionFailed):
    """The function's own preprocess or postprocess took too long."""

    code = "handler_timeout"


class WorkerLost(FunctionFailed):
    """Every worker that ran the job disappeared before it finished."""

    code = "worker_lost"


class OutOfMemory(FuseboxError):
    """The function needs more memory than the budget has."""

    code, http_status = "out_of_memory", 507


class StorageFull(FuseboxError):
    """There is no room left for artifacts."""

    code, http_status = "storage_full", 507


class Unavailable(FuseboxError):
    """The platform cannot serve this now."""

    code, http_status = "unavailable", 503


class ArtifactUnavailable(Unavailable):
    """The version's artifact cannot be brought to or from where artifacts are stored."""

    code = "artifact_unavailable"


class StoreUnavailable(Unavailable):
    """The job store does not answer, so nothing was accepted."""

    code = "store_unavailable"


class DeadlineUnmeetable(Unavailable):
    """No worker could end the job before its deadline, so it was not begun; try again later."""

    code = "deadline_unmeetable"


class DeadlineExceeded(FuseboxError):
    """The job's deadline passed before it had a result."""

    code, http_status = "deadline_exceeded", 504


def _tree(root: type[FuseboxError]) -> Iterator[type[FuseboxError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


BY_CODE: Mapping[str, type[FuseboxError]] = {error.code: error for error in _tree(FuseboxError)}


def decode_error(record: Mapping[str, Any]) -> FuseboxError:
    """The error a stored outcome holds; a code this version does not know becomes `internal`."""
    extensions = {key: value for key, value in record.items() if key not in ("code", "detail")}
    return BY_CODE.get(record["code"], FuseboxError)(record["detail"], **extensions)
