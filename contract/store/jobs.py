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
from contract.store.link import Argument
from contract.store.server import Server


class StaleVersion(FuseboxError):
    """A newer version was deployed between reading the registry and accepting the job."""


class AlreadyAccepted(FuseboxError):
    """This request was accepted before, under the same idempotency key."""

    def __init__(self, job: JobId) -> None:
        super().__init__()
        self.job = job


_REFUSALS: dict[bytes, type[FuseboxError]] = {
    b"!unknown_function": UnknownFunction,
    b"!stale": StaleVersion,
    b"!queue_full": QueueFull,
    b"!key_reused": IdempotencyKeyReused,
}


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
        for spec, payload, is_latest, waiter, claim in submissions:
            args += [
                spec.id,
                spec.function,
                spec.version,
                int(is_latest),
                spec.encode(),
                payload,
                waiter,
                claim,
            ]
        replies = self._server.run("enqueue", args)
        assert len(replies) == len(submissions)
        return [_refusal(reply) for reply in replies]

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
        spec, status, attempts, outcome = self._server.run("watch", [job_id, gateway_id])
        if spec is None:
            raise UnknownJob(job_id=job_id)
        return Job(
            JobSpec.decode(spec),
            Status(status.decode()),
            int(attempts),
            None if outcome is None else Outcome.decode(outcome),
        )

    def cancel(self, job_id: str) -> None:
        """Cancel a job that is queued or running; raises UnknownJob or JobSettled."""
        outcome = Outcome.of_error(JobCancelled(), Status.CANCELLED)
        now = self._server.run(
            "finish", [self._ttl_s, job_id, str(Status.CANCELLED), outcome.encode(), "", 0]
        )
        if now is None:
            raise UnknownJob(job_id=job_id)
        if not now.startswith(b"now "):
            raise JobSettled(status=now.decode())


def _refusal(reply: bytes) -> FuseboxError | None:
    if reply.startswith(b"="):
        return AlreadyAccepted(JobId(reply[1:].decode()))
    refusal = _REFUSALS.get(reply)
    return refusal() if refusal else None
