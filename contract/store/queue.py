"""Jobs as the scheduler and the workers see them: wait, claim, fetch, settle, renew, reap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgpack

from contract import keys
from contract.errors import DeadlineExceeded, DeadlineUnmeetable, WorkerLost
from contract.job import Claim, JobId, JobSpec, Outcome, Status
from contract.store.link import Argument, Link
from contract.store.server import Server, store_errors

READ_AT_ONCE = 2_000


class Cursor(NamedTuple):
    """How far the scheduler has read the pending and the signal stream."""

    pending: str = "0-0"
    signals: str = "$"


class Event(NamedTuple):
    """Something the scheduler must hear: a group ended, a worker came or went."""

    kind: str
    data: bytes


class News(NamedTuple):
    """What came since the cursor."""

    jobs: list[JobSpec]
    events: list[Event]
    cursor: Cursor


class PlannedGroup(NamedTuple):
    """A group that is to be claimed for a worker."""

    worker: str
    group: str
    jobs: Sequence[JobId]
    # a `trail.Planned` per job, or none
    planned: Sequence[bytes] = ()
    # put into the worker's queue where any job is claimed
    message: bytes = b""


class Fetched(NamedTuple):
    """A claimed job with what it takes to run it."""

    claim: Claim
    spec: JobSpec
    payload: bytes
    # trail.Planned
    planned: bytes = b""
    # Origin
    origin: bytes = b""


class Settlement(NamedTuple):
    """The outcome of a claimed job and what the counters keep of it."""

    claim: Claim
    outcome: Outcome
    latency_bucket: int
    total_us: int
    rows: int
    # answered later than it was due
    is_late: bool = False


class GroupReport(NamedTuple):
    """What a worker measured of one group; the scheduler learns its costs from it."""

    group: str
    worker: str
    # (name, version, rows) per member
    members: Sequence[tuple[str, int, int]]
    compute_s: float
    swap_s: float
    build_s: float
    swap_bytes: int = 0
    # (name, version) of functions whose jobs the worker still has, for their hooks are slow; they
    # take no place, and the group is reported again when they are through
    behind: Sequence[tuple[str, int]] = ()
    # how members ran as one, of each run of the group; none where it had none
    strategies: Sequence[str] = ()
    # per member: the tier it ran in, "" where its code was merged with others'
    tiers: Sequence[str] = ()
    # per member: seconds, where they ran one after another; else none
    member_s: Sequence[float] = ()
    # fused DAGs that no cache had
    built: int = 0
    # threads that members could run side by side on
    lanes: int = 1
    # the part of swap_bytes and swap_s that came from disk
    disk_bytes: int = 0
    disk_s: float = 0.0
    # what the scheduler took for swapping, building and computing
    predicted_s: float = 0.0
    # Unix seconds: taken by the worker, first and last on the device; 0 where it was not on it
    taken_at_s: float = 0.0
    began_at_s: float = 0.0
    ended_at_s: float = 0.0
    # of those that ended with it
    jobs: int = 0

    @property
    def measured_s(self) -> float:
        """What `predicted_s` was to foresee."""
        return self.swap_s + self.build_s + self.compute_s

    def encode(self) -> bytes:
        """msgpack array in field order."""
        packed = msgpack.packb(list(self))
        assert isinstance(packed, bytes)
        return packed

    @classmethod
    def decode(cls, data: bytes) -> GroupReport:
        """The report of `encode`."""
        return cls(*msgpack.unpackb(data, use_list=False))


# (hash, field) -> amount
Counters = Mapping[tuple[str, str], int]


class Queue:
    """The moves of accepted jobs."""

    def __init__(self, server: Server, result_ttl_s: float) -> None:
        self._server = server
        self._ttl_s = int(result_ttl_s)

    def signal_tail(self) -> str:
        """The cursor behind the newest signal, to be read before the state it changes."""
        with store_errors():
            newest: Any = self._server.redis.xrevrange(keys.SIGNALS, count=1)
        return newest[0][0].decode() if newest else "0-0"

    def wait(
        self, link: Link, cursor: Cursor, timeout_s: float, is_for_signals: bool = False
    ) -> News:
        """Block until something comes after the cursor, or the time is over.

        `is_for_signals`: let jobs gather until a signal comes, then read both.
        """
        block_ms = max(1, int(timeout_s * 1000))
        read: list[Argument] = [
            "STREAMS",
            keys.PENDING,
            keys.SIGNALS,
            cursor.pending,
            cursor.signals,
        ]
        with store_errors():
            if is_for_signals:
                one: list[Argument] = [
                    "COUNT",
                    1,
                    "BLOCK",
                    block_ms,
                    "STREAMS",
                    keys.SIGNALS,
                    cursor.signals,
                ]
                link.call("XREAD", *one)
                found = link.call("XREAD", "COUNT", READ_AT_ONCE, *read)
            else:
                found = link.call("XREAD", "COUNT", READ_AT_ONCE, "BLOCK", block_ms, *read)
        news = News([], [], cursor)
        for name, entries in (found or {}).items():
            last = entries[-1][0].decode()
            fields = (dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in entries)
            if name.decode() == keys.PENDING:
                news.jobs.extend(JobSpec.decode(entry[b"s"]) for entry in fields)
                cursor = cursor._replace(pending=last)
            else:
                news.events.extend(Event(entry[b"k"].decode(), entry[b"d"]) for entry in fields)
                cursor = cursor._replace(signals=last)
        return news._replace(cursor=cursor)

    def groups(self) -> dict[str, str]:
        """Group id -> worker of every group under way."""
        with store_errors():
            found: Any = self._server.redis.hgetall(keys.GROUPS)
        return {group.decode(): worker.decode() for group, worker in found.items()}

    def end_group(self, group: str) -> None:
        """Give back the place of a group that its worker never began."""
        with store_errors():
            self._server.redis.hdel(keys.GROUPS, group)

    def claim_all(
        self, token: str, lease_end_s: float, groups: Sequence[PlannedGroup]
    ) -> list[list[Claim]] | None:
        """Give queued jobs to workers, all in one move; per group its jobs that were still queued.

        A group of which any was is sent in the same move. None when another scheduler is the
        active one.
        """
        args: list[Argument] = [token, lease_end_s]
        for worker, group, jobs, planned, message in groups:
            args += [worker, keys.queue(worker), message, group, len(jobs)]
            for job, note in zip(jobs, planned or [b""] * len(jobs), strict=True):
                args += [job, note]
        found = self._server.run("claim", args)
        if found is None:
            return None
        return [
            [Claim(job, fence) for job, fence in zip(group.jobs, fences, strict=True) if fence]
            for group, fences in zip(groups, found, strict=True)
        ]

    def fetch(self, group: str, jobs: Sequence[JobId]) -> list[Fetched]:
        """Those of the jobs that are still claimed for this group, in one round trip."""
        fields = ("status", "group", "fence", "spec", "payload", "planned", "origin")
        found = self._server.call_all([("HMGET", keys.job(job), *fields) for job in jobs])
        return [
            Fetched(
                Claim(job, int(fence)), JobSpec.decode(spec), payload, planned or b"", origin or b""
            )
            for job, (status, its, fence, spec, payload, planned, origin) in zip(
                jobs, found, strict=True
            )
            if status == b"running" and its == group.encode()
        ]

    def settle(
        self,
        settlements: Sequence[Settlement],
        counters: Counters,
        group: str,
        ended: GroupReport | None,
    ) -> list[bool]:
        """Settle jobs in one atomic move; per job whether its fence was current.

        `ended` says that the group is over and makes room for another.
        """
        args: list[Argument] = [self._ttl_s, ended.encode() if ended else "", group, len(counters)]
        for (name, field), amount in counters.items():
            args += [name, field, amount]
        for claim, outcome, bucket, total_us, rows, is_late in settlements:
            args += [
                claim.job,
                claim.fence,
                str(outcome.status),
                outcome.encode(),
                bucket,
                total_us,
                rows,
                int(is_late),
            ]
        return [bool(reply) for reply in self._server.run("settle", args)]

    def expire(self, jobs: Sequence[JobId], stage: str) -> int:
        """Settle queued jobs as expired; how many of them were still queued."""
        outcome = Outcome.of_error(DeadlineExceeded(stage=stage), Status.EXPIRED)
        args: list[Argument] = [self._ttl_s, str(Status.EXPIRED), outcome.encode()]
        replies = self._server.run("finish", [*args, f"expired:{stage}", 1, *jobs])
        return sum(now is not None and now.startswith(b"now ") for now in replies)

    def refuse(self, refusals: Sequence[tuple[JobId, DeadlineUnmeetable]]) -> int:
        """Settle queued jobs as refused, each for its own reason; how many were still queued."""
        args: list[Argument] = [self._ttl_s, str(Status.REFUSED), "refused:deadline_unmeetable"]
        for job, error in refusals:
            args += [job, Outcome.of_error(error, Status.REFUSED).encode()]
        return sum(self._server.run("refuse", args))

    def renew(self, claims: Iterable[Claim], lease_end_s: float) -> set[JobId]:
        """Prolong leases; the jobs that this worker has lost."""
        args: list[Argument] = [lease_end_s]
        for claim in claims:
            args += [claim.job, claim.fence]
        return {JobId(job.decode()) for job in self._server.run("renew", args)}

    def reap(self, now_s: float, max_attempts: int) -> tuple[int, int]:
        """Re-queue jobs whose lease ran out; how many were re-queued and how many failed."""
        return self._reap(now_s, max_attempts, "", is_handed_back=False)

    def reap_worker(self, worker: str, max_attempts: int) -> tuple[int, int]:
        """Re-queue every job of a worker that is gone."""
        return self._reap(0.0, max_attempts, worker, is_handed_back=False)

    def hand_back(self, worker: str) -> int:
        """Re-queue every job of a worker that stops; the attempt does not count."""
        return self._reap(0.0, 1, worker, is_handed_back=True)[0]

    def next_lease_end_s(self) -> float | None:
        """When the earliest lease runs out."""
        with store_errors():
            first: Any = self._server.redis.zrange(keys.LEASES, 0, 0, withscores=True)
        return float(first[0][1]) if first else None

    def _reap(
        self, now_s: float, max_attempts: int, worker: str, is_handed_back: bool
    ) -> tuple[int, int]:
        lost = Outcome.of_error(WorkerLost()).encode()
        queued, failed = self._server.run(
            "reap", [now_s, max_attempts, self._ttl_s, lost, worker, int(is_handed_back)]
        )
        return len(queued), len(failed)
