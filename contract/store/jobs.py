"""Jobs as gateways see them: submit, read, watch, cancel, and the replies."""

from __future__ import annotations

from collections.abc import Sequence

from contract import keys
from contract.errors import (
    FuseboxError,
    IdempotencyKeyReused,
    JobCancelled,
    JobSettled,
    QueueFull,
    UnknownFunction,
    UnknownJob,
    WaitTooLong,
)
from contract.job import (
    JOB_ID_CHARS,
    IdempotencyClaim,
    Job,
    JobId,
    JobSpec,
    Outcome,
    Status,
    Submission,
)
from contract.origin import Origin
from contract.store.link import Argument
from contract.store.server import Server
from contract.trail import Trail


class StaleVersion(FuseboxError):
    """A newer version was deployed between reading the registry and accepting the job."""


class AlreadyAccepted(FuseboxError):
    """This request was accepted before, under the same idempotency key."""

    def __init__(self, job: JobId) -> None:
        super().__init__()
        self.job = job


# A client is never told to come back sooner, nor to stay away for longer than a queue lasts.
RETRY_AFTER_MS = (1_000, 60_000)


class Jobs:
    """The jobs of the store."""

    def __init__(self, server: Server, result_ttl_s: float) -> None:
        self._server = server
        self._ttl_s = int(result_ttl_s)

    def submit(
        self, submissions: Sequence[Submission], limit: int, function_limit: int
    ) -> list[FuseboxError | None]:
        """Accept jobs in one round trip, each or not at all; per job None or why it was refused."""
        args: list[Argument] = [limit, function_limit]
        for spec, payload, is_latest, waiter, claim, origin in submissions:
            args += [
                spec.id,
                spec.function,
                spec.version,
                origin.alias or int(is_latest),
                spec.encode(),
                payload,
                waiter,
                claim,
                int(1000 * (spec.deadline_s - spec.accepted_at_s)),
                origin.encode(),
                origin.told,
            ]
        replies = self._server.run("enqueue", args)
        return [
            _refusal(reply, submission.spec)
            for submission, reply in zip(submissions, replies, strict=True)
        ]

    def accepted_as(self, claim: IdempotencyClaim) -> JobId | None:
        """The job that this request was accepted as before; raises IdempotencyKeyReused."""
        [held] = self._server.call_all([("GET", keys.idempotency(claim.digest))])
        if held is None:
            return None
        text = held.decode()
        if text[JOB_ID_CHARS:] != claim.fingerprint:
            raise IdempotencyKeyReused()
        return JobId(text[:JOB_ID_CHARS])

    def get(self, job_id: str) -> Job:
        """The job now; raises UnknownJob."""
        return self.watch(job_id, "")

    def watch(self, job_id: str, gateway_id: str) -> Job:
        """The job now; unless it has settled, its reply will come on this gateway's channel."""
        fields = self._server.run("watch", [job_id, gateway_id])
        if fields[0] is None:
            raise UnknownJob(job_id=job_id)
        return job_of(fields)

    def cancel(self, job_id: str) -> None:
        """Cancel a job that is queued or running; raises UnknownJob or JobSettled."""
        outcome = Outcome.of_error(JobCancelled(), Status.CANCELLED)
        [now] = self._server.run(
            "finish", [self._ttl_s, str(Status.CANCELLED), outcome.encode(), "", 0, job_id]
        )
        if now is None:
            raise UnknownJob(job_id=job_id)
        if not now.startswith(b"now "):
            raise JobSettled(status=now.decode())

    def abandon(self, job_id: str) -> bool:
        """Cancel a job whose caller has gone, if it is still queued; whether it was."""
        outcome = Outcome.of_error(JobCancelled(), Status.CANCELLED)
        args: list[Argument] = [self._ttl_s, str(Status.CANCELLED), outcome.encode()]
        [now] = self._server.run("finish", [*args, "abandoned", 1, job_id])
        return now is not None and now.startswith(b"now ")


def job_of(fields: Sequence[bytes | None]) -> Job:
    """The job of a record's fields, in the order of `watch.lua`."""
    spec, status, attempts, outcome, *notes = fields
    assert spec is not None
    assert status is not None
    ahead, planned, ran, worker, group, origin = (note or b"" for note in notes)
    return Job(
        JobSpec.decode(spec),
        Status(status.decode()),
        int(attempts or 0),
        None if outcome is None else Outcome.decode(outcome),
        Trail(ahead, planned, ran, worker.decode(), group.decode()),
        Origin.decode(origin),
    )


def _refusal(reply: bytes, spec: JobSpec) -> FuseboxError | None:
    """Why the enqueue script did not accept a job; None where it did."""
    if reply.startswith(b"="):
        return AlreadyAccepted(JobId(reply[1:].decode()))
    if not reply.startswith(b"!"):
        return None
    reason, _, number = reply.partition(b" ")
    plain = _PLAIN_REFUSALS.get(reason)
    if plain is not None:
        return plain()
    wait_ms, left_ms = int(number), 1000 * (spec.deadline_s - spec.accepted_at_s)
    if reason == b"!queue_full":
        return QueueFull(retry_after_ms=retry_after_ms(wait_ms))
    assert reason == b"!wait_too_long", reply
    return WaitTooLong(
        f"The job would be answered in about {wait_ms / 1000:.1f} s, "
        f"but its deadline is in {left_ms / 1000:.1f} s.",
        predicted_wait_ms=wait_ms,
        retry_after_ms=retry_after_ms(wait_ms - left_ms),
    )


_PLAIN_REFUSALS: dict[bytes, type[FuseboxError]] = {
    b"!unknown_function": UnknownFunction,
    b"!stale": StaleVersion,
    b"!key_reused": IdempotencyKeyReused,
}


def retry_after_ms(wait_ms: float) -> int:
    """What a client is told to wait, within RETRY_AFTER_MS."""
    low, high = RETRY_AFTER_MS
    return int(min(max(wait_ms, low), high))
