"""Ended jobs of which somebody is to be told, and what becomes of telling them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from contract import keys
from contract.delivery import Delivery
from contract.destinations import MAX_DESTINATIONS
from contract.job import Job, JobId, JobSpec, Outcome, Status
from contract.origin import Origin
from contract.store.link import Argument, Link
from contract.store.server import Server, store_errors

# of a stream that destinations name, about; the oldest entries go
STREAM_LENGTH = 10_000
# callers name streams, so one that nothing is written to any more has to go
STREAM_TTL_S = 604_800
# of a job: what its function names, and what its call does
MOST = 2 * MAX_DESTINATIONS
_RECORD = ("spec", "status", "attempts", "outcome", "origin")


class Bounds(NamedTuple):
    """Of all dead letters together."""

    letters: int
    bytes: int


class Ended(NamedTuple):
    """An entry of the outbox."""

    entry: str
    job: JobId
    # its record is kept so long once everybody is told
    ttl_s: int


class Due(NamedTuple):
    """A delivery whose time has come."""

    lane: str
    job: JobId
    number: int


class Head(NamedTuple):
    """What of an ended job says who is told."""

    status: Status
    origin: Origin


class Backlog(NamedTuple):
    """What is yet to be told."""

    # ended jobs in the outbox, which have no deliveries yet
    ended: int = 0
    # deliveries in all lanes, those that will be tried again included
    waiting: int = 0


class StreamRefused(Exception):
    """A stream takes no entries: its key is something else."""


class Secrets(NamedTuple):
    """The secrets of webhooks: the one in use, and the one before while it is valid."""

    now: str
    last: str = ""
    last_until_s: float = 0.0


class Deliveries:
    """The outbox and the lanes of the store."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def wait(self, link: Link, count: int, timeout_s: float) -> list[Ended]:
        """The oldest entries of the outbox; blocks until there is one or the time is over."""
        block_ms = max(1, int(timeout_s * 1000))
        with store_errors():
            found = link.call(
                "XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", keys.OUTBOX, "0-0"
            )
        ended = []
        for entry, flat in (found or {}).get(keys.OUTBOX.encode(), []):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            ended.append(Ended(entry.decode(), JobId(fields[b"j"].decode()), int(fields[b"t"])))
        return ended

    def heads(self, jobs: Sequence[JobId]) -> list[Head | None]:
        """What says who is told of these jobs, in one round trip; None where a record is gone."""
        if not jobs:
            return []
        commands = [("HMGET", keys.job(job), "status", "origin") for job in jobs]
        found = self._server.call_all(commands)
        return [
            None if status is None else Head(Status(status.decode()), Origin.decode(origin or b""))
            for status, origin in found
        ]

    def payload(self, job: JobId) -> bytes:
        """The input of a job of which somebody is still to be told; b"" where it is gone."""
        [found] = self._server.call_all([("HGET", keys.job(job), "payload")])
        return found or b""

    def spread(
        self, ended: Ended, deliveries: Sequence[tuple[str, Delivery]],
        reason: str, bounds: Bounds, now_s: float,
    ) -> bool:  # fmt: skip
        """Take a job out of the outbox; its deliveries, each with its lane, wait from now on.

        With a reason it becomes a dead letter as well. Whether this did it.
        """
        args: list[Argument] = [now_s, ended.entry, ended.job, ended.ttl_s, reason, *bounds]
        for lane, delivery in deliveries:
            args += [lane, delivery.encode()]
        return bool(self._server.run("spread", args))

    def lanes(self, now_s: float, count: int) -> list[str]:
        """Lanes in which something is due, the longest due first."""
        [found] = self._server.call_all(
            [("ZRANGEBYSCORE", keys.DUE, "-inf", now_s, "LIMIT", 0, count)]
        )
        return [lane.decode() for lane in found]

    def due(self, lane: str, now_s: float, count: int) -> list[Due]:
        """Deliveries of a lane that are due, the longest due first."""
        [found] = self._server.call_all(
            [("ZRANGEBYSCORE", keys.due(lane), "-inf", now_s, "LIMIT", 0, count)]
        )
        pairs = (member.decode().split(" ") for member in found)
        return [Due(lane, JobId(job), int(number)) for job, number in pairs]

    def next_due_s(self, now_s: float) -> float | None:
        """When the next lane is due that is not yet; None where there is none."""
        [found] = self._server.call_all(
            [("ZRANGEBYSCORE", keys.DUE, f"({now_s}", "+inf", "WITHSCORES", "LIMIT", 0, 1)]
        )
        if not found:
            return None
        # RESP3 has pairs
        pair = found[0] if isinstance(found[0], list) else found
        return float(pair[1])

    def get(self, due: Due) -> tuple[Job | None, Delivery | None]:
        """The job of a delivery, and the delivery; None where they are gone."""
        [fields] = self._server.call_all(
            [("HMGET", keys.job(due.job), *_RECORD, f"d:{due.number}")]
        )
        *record, delivery = fields
        job = None if record[0] is None else job_of(record)
        return job, None if delivery is None else Delivery.decode(delivery)

    def note(
        self, due: Due, delivery: Delivery, reason: str, bounds: Bounds, now_s: float,
        stream: str = "", event: bytes = b"",
    ) -> bool:  # fmt: skip
        """Log an attempt; with `next_at_s` there will be another, with a reason it is given up.

        `stream`: an event is written to it in the same move; raises StreamRefused. Whether the
        delivery still waited.
        """
        args: list[Argument] = [
            now_s, due.job, due.number, due.lane, delivery.encode(),
            delivery.next_at_s or "", reason, *bounds, stream, event, STREAM_LENGTH, STREAM_TTL_S,
        ]  # fmt: skip
        try:
            return bool(self._server.run("delivered", args))
        except ResponseError as error:
            if "WRONGTYPE" in str(error):
                raise StreamRefused(stream) from error
            raise

    def of(self, job_id: JobId) -> list[Delivery]:
        """The delivery log of a job; empty before it has ended."""
        fields = [f"d:{number}" for number in range(MOST)]
        [found] = self._server.call_all([("HMGET", keys.job(job_id), *fields)])
        return [Delivery.decode(data) for data in found if data is not None]

    def waiting(self) -> int:
        """Ended jobs in the outbox."""
        [count] = self._server.call_all([("XLEN", keys.OUTBOX)])
        return int(count)

    def backlog(self) -> Backlog:
        """What is yet to be told, at one moment."""
        with store_errors():
            pipe = self._server.redis.pipeline(transaction=True)
            pipe.xlen(keys.OUTBOX)
            pipe.hget(keys.DELIVERIES, "")
            ended, waiting = pipe.execute()
        return Backlog(int(ended), int(waiting or 0))

    def secrets(self, fresh: str) -> Secrets:
        """The secrets of webhooks; where there are none, `fresh` is the first."""
        _, found = self._server.call_all(
            [
                ("HSETNX", keys.WEBHOOKS, "secret", fresh),
                ("HMGET", keys.WEBHOOKS, "secret", "last", "last_until"),
            ]
        )
        now, last, until = ((value or b"").decode() for value in found)
        return Secrets(now, last, float(until or 0))

    def rotate(self, fresh: str, last_until_s: float) -> None:
        """Use another secret; the one before is valid until then."""
        self._server.run("rotate", [fresh, last_until_s])


def job_of(fields: Sequence[Any]) -> Job:
    """The job of a record's fields: spec, status, attempts, outcome, origin."""
    spec, status, attempts, outcome, origin = fields
    return Job(
        JobSpec.decode(spec),
        Status(status.decode()),
        int(attempts),
        None if outcome is None else Outcome.decode(outcome),
        origin=Origin.decode(origin or b""),
    )
