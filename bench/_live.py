"""Workloads of the simulator, played on a running platform, and what it told of its groups."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any, NamedTuple

from _openloop import Client
from _platform import Platform
from simulator import Answer, Call, JobRecord, Report, Workload

from contract import keys
from contract.job import JobSpec
from contract.settings import read_settings
from contract.store import Store, open_store
from contract.store.queue import Event, GroupReport
from contract.trail import Planned

NPZ = "application/x-npz"
EXPIRED, TOO_MANY, UNMEETABLE = 504, 429, "deadline_unmeetable"


class Told(NamedTuple):
    """One call as its client saw it; seconds since the run began."""

    call: Call
    sent_s: float
    latency_s: float
    # 0 when the connection broke
    status: int
    code: str
    # milliseconds per stage, of answers
    timings_ms: Mapping[str, float]
    job: str

    @property
    def is_refused(self) -> bool:
        """Whether it was told early that it cannot be met, or that too many wait."""
        return self.status == TOO_MANY or self.code == UNMEETABLE


class Ran(NamedTuple):
    """A group as its worker reported it; seconds since the run began."""

    # taken by the worker; first and last on the device; reported
    taken_s: float
    began_s: float
    ended_s: float
    reported_s: float
    group: str
    worker: str
    # (function, rows)
    members: tuple[tuple[str, int], ...]
    compute_s: float
    build_s: float
    swap_s: float


class Way(NamedTuple):
    """A job on its way to a worker; seconds since the run began."""

    accepted_s: float
    claimed_s: float
    group: str


@dataclass
class Played:
    """A run: what became of every call, and the groups."""

    told: list[Told] = field(default_factory=list)
    groups: list[Ran] = field(default_factory=list)
    # of answered jobs, by id
    ways: dict[str, Way] = field(default_factory=dict)

    @property
    def failures(self) -> list[Told]:
        """Calls that were neither answered nor refused nor expired."""
        return [one for one in self.told if one.status not in (200, EXPIRED) and not one.is_refused]

    def report(self, slos_s: Mapping[str, float], timeouts_s: Mapping[str, float]) -> Report:
        """The same run as the simulator reports one; what else failed counts as expired."""
        report = Report(slos_s, timeouts_s)
        for one in self.told:
            ended_s = one.sent_s + one.latency_s
            outcome, started_s = Answer.EXPIRED, nan
            if one.status == 200:
                times = one.timings_ms
                started_s = ended_s - (times.get("compute", 0.0) + times.get("hooks", 0.0)) / 1e3
                outcome = Answer.ANSWERED
            elif one.is_refused:
                outcome = Answer.REFUSED
            call = one.call
            report.add(
                JobRecord(call.function, one.sent_s, started_s, ended_s, outcome, -1, call.rows)
            )
        return report


class Caller:
    """Clients of every function of a platform."""

    def __init__(self, platform: Platform, body_of: Callable[[str, int], bytes]) -> None:
        self._platform = platform
        self._body_of = body_of
        self._clients: dict[tuple[str, int], Client] = {}

    async def play(self, workload: Workload) -> Played:
        """Send every call at its time, and those that follow; wait for all answers."""
        played, calls = Played(), [*workload.calls]
        for call in calls:
            self._client(call)
        with Tap(self._platform) as tap:
            began_s = time.monotonic()
            tasks = []
            for call in calls:
                await asyncio.sleep(max(0.0, began_s + call.at_s - time.monotonic()))
                tasks.append(asyncio.create_task(self._chain(call, workload, began_s, played)))
            await asyncio.gather(*tasks)
            played.groups = tap.groups()
            played.ways = tap.ways(one.job for one in played.told if one.status == 200)
        return played

    def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    async def _chain(
        self, call: Call | None, workload: Workload, began_s: float, played: Played
    ) -> None:
        while call is not None:
            await asyncio.sleep(max(0.0, began_s + call.at_s - time.monotonic()))
            played.told.append(await self._tell(call, began_s))
            ended_s = time.monotonic() - began_s
            call = workload.then(call, ended_s) if workload.then else None

    async def _tell(self, call: Call, began_s: float) -> Told:
        sent_s = time.monotonic() - began_s
        try:
            status, _, body = await self._client(call).exchange()
        except (OSError, asyncio.IncompleteReadError):
            status, body = 0, b"{}"
        latency_s = time.monotonic() - began_s - sent_s
        answer: dict[str, Any] = json.loads(body)
        return Told(
            call,
            sent_s,
            latency_s,
            status,
            answer.get("code", ""),
            answer.get("timings_ms", {}),
            answer.get("job", ""),
        )

    def _client(self, call: Call) -> Client:
        key = call.function, call.rows
        client = self._clients.get(key)
        if client is None:
            url = f"{self._platform.url}/v1/functions/{call.function}/invoke"
            client = self._clients[key] = Client(url, self._body_of(*key), NPZ)
        return client


class Tap:
    """Reads what workers signal of their groups; the stream keeps some thousands of signals."""

    def __init__(self, platform: Platform) -> None:
        settings = read_settings({"FUSEBOX_DATA": str(platform.data)})
        self._store: Store = open_store(settings.redis_url)

    def __enter__(self) -> Tap:
        self._after = self._store.queue.signal_tail()
        # clients begin in the same moment, by the other clock
        self._began_s = time.time()
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def groups(self) -> list[Ran]:
        """Those that were reported since this was entered."""
        found: Any = self._store.server.redis.xrange(keys.SIGNALS, min=f"({self._after}")
        entries = ((key, Event(entry[b"k"].decode(), entry[b"d"])) for key, entry in found)
        return [
            self._ran(key, GroupReport.decode(event.data))
            for key, event in entries
            if event.kind == "group"
        ]

    def _ran(self, key: bytes, report: GroupReport) -> Ran:
        times_s = (report.taken_at_s, report.began_at_s, report.ended_at_s)
        reported_at_s = int(key.partition(b"-")[0]) / 1e3
        return Ran(
            *(at_s - self._began_s for at_s in (*times_s, reported_at_s)),
            report.group,
            report.worker,
            tuple((member[0], member[2]) for member in report.members),
            report.compute_s,
            report.build_s,
            report.swap_s,
        )

    def ways(self, jobs: Iterable[str]) -> dict[str, Way]:
        """When these jobs were accepted and claimed, and the groups they ran in."""
        names = list(jobs)
        fields = ("spec", "planned", "ran")
        found = self._store.server.call_all([("HMGET", keys.job(n), *fields) for n in names])  # type: ignore[arg-type]
        return {
            name: Way(
                JobSpec.decode(spec).accepted_at_s - self._began_s,
                Planned.decode(planned).claimed_at_s - self._began_s,
                GroupReport.decode(ran).group,
            )
            for name, (spec, planned, ran) in zip(names, found, strict=True)
            if spec and planned and ran
        }


def one_after_another(names: Iterable[str], rows: int, times: int, seconds: float) -> Workload:
    """Each function so often, each call after the answer to the one before."""
    left = [name for name in names for _ in range(times)]

    def then(_: Call, answered_s: float) -> Call | None:
        return Call(answered_s, left.pop(0), rows) if left and answered_s < seconds else None

    return Workload([Call(0.0, left.pop(0), rows)], then)
