"""Events of jobs: progress is written, and gateways that follow a job are told to look again."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from contract import keys
from contract.errors import UnknownJob
from contract.events import MAX_PROGRESS, EventId, Followed, Progress
from contract.job import Claim, JobId
from contract.store.jobs import job_of
from contract.store.link import Argument
from contract.store.server import Server
from contract.store.subscription import subscribe


class Events:
    """The events of the store's jobs."""

    def __init__(self, server: Server, result_ttl_s: float) -> None:
        self._server = server
        self._ttl_s = int(result_ttl_s)

    def report(self, claim: Claim, number: int, data: bytes) -> bool:
        """Keep progress of a job that runs; whether its claim was current."""
        args: list[Argument] = [self._ttl_s, claim.job, claim.fence, number, data, MAX_PROGRESS]
        return bool(self._server.run("progress", args))

    def follow(self, job_id: str, gateway_id: str, after: EventId) -> Followed:
        """The job now, with its progress after an event; raises UnknownJob.

        Unless it has settled, this gateway is told when there is more.
        """
        fields, entries = self._server.run("follow", [job_id, gateway_id, str(after), MAX_PROGRESS])
        *fields, fence = fields
        if fields[0] is None:
            raise UnknownJob(job_id=job_id)
        progress = [Progress(EventId.parse(id_.decode()), data) for id_, (_, data) in entries]
        return Followed(job_of(fields), int(fence), progress)


def hear(
    server: Server,
    gateway_id: str,
    look: Callable[[JobId], None],
    resync: Callable[[], None],
    stop: Event,
) -> None:
    """Call `look` with each followed job of which there is more, until `stop` is set.

    What is said while the connection is down is lost; `resync` is called after every
    (re)subscription.
    """
    channel = keys.nudges(gateway_id)
    subscribe(server, channel, lambda data: look(JobId(data.decode())), resync, stop)
