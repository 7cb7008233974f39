"""What the active scheduler holds in memory; rebuilt from Redis whenever one takes over."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf
from typing import NamedTuple

from contract.function import Function, FunctionRef
from contract.job import Claim, JobId, JobSpec
from contract.store.queue import Cursor, Event, GroupReport
from contract.store.workers import WorkerReport
from workers.scheduling.coming import Coming
from workers.scheduling.costs import Costs, Members, members_of
from workers.scheduling.drain import ALL, Drain
from workers.scheduling.pending import Pending
from workers.scheduling.placement import Measured, relative_speeds
from workers.scheduling.records import Dispatch, FunctionView, PendingJob, WorkerView
from workers.scheduling.under_way import UnderWay, remaining_s

# every report names functions, mostly the same ones
_ref_of = lru_cache(maxsize=16384)(FunctionRef.parse)
# groups of a worker whose fused DAGs it is taken to have; about as many fit its cache
CACHED = 512


class Behind(NamedTuple):
    """Functions that a worker still has jobs of, from a group that is over for the others."""

    worker: str
    functions: frozenset[FunctionRef]


@dataclass
class State:
    """Pending jobs, workers and groups under way."""

    cursor: Cursor
    groups: dict[str, UnderWay]
    costs: Costs
    pending: Pending = field(default_factory=Pending)
    # heap of the deadlines of pending jobs, and of some that wait no longer
    deadlines: list[tuple[float, JobId]] = field(default_factory=list)
    workers: dict[str, WorkerReport] = field(default_factory=dict)
    # functions whose weights are on the device or arriving there, by worker
    resident: dict[str, frozenset[FunctionRef]] = field(default_factory=dict)
    # functions whose weights are in host memory, by worker
    hosted: dict[str, frozenset[FunctionRef]] = field(default_factory=dict)
    # relative to the mean of all workers
    speeds: dict[str, float] = field(default_factory=dict)
    # groups that take no place any more: functions whose hooks the worker does not wait for
    behind: dict[str, Behind] = field(default_factory=dict)
    # when each worker ended its last group, as far as was heard; Unix seconds
    ended_at_s: dict[str, float] = field(default_factory=dict)
    # functions sent to a worker since its last report
    arriving: dict[str, set[FunctionRef]] = field(default_factory=dict)
    # since when a function has had jobs that could not be sent at once, drain.ALL for any
    waiting_since_s: dict[str, float] = field(default_factory=dict)
    # functions of which jobs came since it was last noted what waits
    came: set[str] = field(default_factory=set)
    # jobs of groups that have ended, by function, and of all under drain.ALL
    settled: Counter[str] = field(default_factory=Counter)
    drain: Drain = field(default_factory=Drain)
    # reports of groups, for a policy that learns to take
    reports: list[GroupReport] = field(default_factory=list)
    # by worker the groups it has run, the last one last: it has their fused DAGs
    cached: dict[str, dict[Members, None]] = field(default_factory=dict)
    # what each worker was last told that is coming to it
    told: Coming = field(default_factory=dict)
    # when the policy wants to be asked again, whatever happens before; Unix seconds
    wake_at_s: float = inf
    # monotonic, when removed functions are looked for
    forget_at_s: float = 0.0

    def add_jobs(self, specs: Iterable[JobSpec]) -> set[FunctionRef]:
        """Take in queued jobs; the functions that are not known yet."""
        unknown = set()
        for spec in specs:
            job = PendingJob(
                spec.id,
                spec.ref,
                spec.rows,
                spec.due_at_s,
                spec.deadline_s,
                spec.accepted_at_s,
                spec.priority,
            )
            self.pending.add(job)
            self.came.add(job.function.name)
            heapq.heappush(self.deadlines, (job.deadline_s, job.id))
            if job.function not in self.pending.functions:
                unknown.add(job.function)
        return unknown

    def remove_job(self, job: PendingJob) -> None:
        """A job waits no longer."""
        name = job.function.name
        if self.pending.remove(job.id) is not None and name not in self.pending.names():
            self.waiting_since_s.pop(name, None)

    def expired(self, now_s: float) -> list[PendingJob]:
        """Pending jobs whose deadline has passed; they are for the caller to remove."""
        found = []
        while self.next_deadline_s() <= now_s:
            _, job = heapq.heappop(self.deadlines)
            waiting = self.pending.get(job)
            assert waiting is not None
            found.append(waiting)
        return found

    def note_waiting(self, now_s: float) -> None:
        """What waits now, after all that could be sent was sent, has to wait for others."""
        for name in self.came & self.pending.names().keys():
            self.waiting_since_s.setdefault(name, now_s)
        self.came.clear()
        if self.pending:
            self.waiting_since_s.setdefault(ALL, now_s)
        else:
            self.waiting_since_s.clear()

    def add_function(self, function: Function) -> None:
        """Take in what the policy must know of a version."""
        manifest = function.manifest
        probe = {rows: ms / 1e3 for rows, ms in function.compute_ms.items()}
        self.costs.expect(function.ref, probe)
        self.pending.functions[function.ref] = FunctionView(
            manifest.weight_bytes,
            manifest.activation_bytes_at,
            manifest.max_batch,
            manifest.is_batchable,
            manifest.has_hooks,
            manifest.is_eager,
        )

    def forget_functions(self, removed: Iterable[FunctionRef]) -> None:
        """No job comes for these versions any more."""
        for ref in removed:
            self.pending.functions.pop(ref, None)
            self.costs.forget(ref)
            if ref.name not in {other.name for other in self.pending.functions}:
                self.pending.shares.forget(ref.name)
                self.settled.pop(ref.name, None)

    def set_workers(self, reports: Iterable[WorkerReport]) -> None:
        """Take in fresh reports; what was arriving shows in them now."""
        self.workers = {report.id: report for report in reports}
        self.resident = {
            w: frozenset(map(_ref_of, report.functions)) for w, report in self.workers.items()
        }
        self.hosted = {
            w: frozenset(map(_ref_of, report.hosted)) for w, report in self.workers.items()
        }
        self.speeds = relative_speeds(
            {w: Measured(r.flops, r.memory_bytes_per_s) for w, r in self.workers.items()}
        )
        self.arriving.clear()

    def hear_all(self, events: Iterable[Event], now_s: float = 0.0) -> bool:
        """Take in signals; whether the workers have to be read again."""
        is_worker_news = False
        for event in events:
            if event.kind == "group":
                report = GroupReport.decode(event.data)
                group = self.groups.pop(report.group, None)
                if group is not None:
                    self.ended_at_s[group.worker] = now_s
                    self.settled.update(group.jobs)
                    self.settled[ALL] += sum(group.jobs.values())
                self.behind.pop(report.group, None)
                if report.behind:
                    functions = frozenset(FunctionRef(*pair) for pair in report.behind)
                    self.behind[report.group] = Behind(report.worker, functions)
                if report.members:
                    if group is not None:
                        self.costs.note_total(group.predicted_s, report)
                    # what it would have been on a worker of the mean speed
                    speed = self.speeds.get(report.worker, 1.0)
                    report = report._replace(compute_s=report.compute_s * speed)
                    self.reports.append(report)
                    self._note_cached(report)
                    for ref, compute_s in self.costs.learn(report):
                        self.pending.shares.charge(ref.name, compute_s)
            is_worker_news |= event.kind == "worker"
        return is_worker_news

    def views(self, now_s: float | None = None) -> list[WorkerView]:
        """The workers as the policy sees them; without a time, what they have is as long as new."""
        groups: defaultdict[str, list[UnderWay]] = defaultdict(list)
        for group in self.groups.values():
            groups[group.worker].append(group)
        behind: defaultdict[str, set[FunctionRef]] = defaultdict(set)
        for its in self.behind.values():
            behind[its.worker] |= its.functions
        return [
            self._view(report, groups[report.id], behind[report.id], now_s)
            for report in self.workers.values()
            if not report.is_draining
        ]

    def _view(
        self,
        report: WorkerReport,
        groups: list[UnderWay],
        behind: Set[FunctionRef],
        now_s: float | None,
    ) -> WorkerView:
        functions, arriving = self.pending.functions, self.arriving.get(report.id, set())
        arriving_bytes = sum(functions[ref].weight_bytes for ref in arriving if ref in functions)
        return WorkerView(
            report.id,
            report.places - len(groups),
            report.budget_bytes,
            self.resident[report.id],
            sum(group.predicted_s for group in groups) if groups else None,
            frozenset(behind),
            report.resident_bytes + arriving_bytes,
            remaining_s=remaining_s(groups, self.ended_at_s.get(report.id, 0.0), now_s),
            speed=self.speeds.get(report.id, 1.0),
            groups_of=Counter(name for group in groups for name in group.jobs),
            hosted=self.hosted[report.id],
            cached=self.cached.get(report.id, {}).keys(),
            lanes=report.threads,
        )

    def _note_cached(self, report: GroupReport) -> None:
        """A worker has the DAG of what it has run, as far as its cache reaches."""
        its = self.cached.setdefault(report.worker, {})
        members = members_of((FunctionRef(name, v), rows) for name, v, rows in report.members)
        its.pop(members, None)
        its[members] = None
        if len(its) > CACHED:
            del its[next(iter(its))]

    def start(
        self,
        group: str,
        dispatch: Dispatch,
        claims: list[Claim],
        lease_end_s: float,
        now_s: float = 0.0,
    ) -> None:
        """A group was claimed: its jobs wait no longer, one of the worker's places is taken."""
        for job in dispatch.jobs:
            # those not claimed were cancelled meanwhile
            self.remove_job(job)
        if claims:
            held = {claim.job for claim in claims}
            jobs = Counter(job.function.name for job in dispatch.jobs if job.id in held)
            self.groups[group] = UnderWay(
                dispatch.worker, dispatch.predicted_s, lease_end_s, jobs, now_s
            )
            functions = {job.function for job in dispatch.jobs}
            self.arriving.setdefault(dispatch.worker, set()).update(functions)
            resident = self.resident.get(dispatch.worker, frozenset())
            if not functions <= resident:
                self.resident[dispatch.worker] = resident | functions

    def drop_workers(self, gone: Iterable[str]) -> None:
        """Workers are gone, and their groups with them."""
        lost = set(gone)
        self.cached = {w: its for w, its in self.cached.items() if w not in lost}
        self.groups = {g: its for g, its in self.groups.items() if its.worker not in lost}
        self.behind = {g: its for g, its in self.behind.items() if its.worker not in lost}
        self.workers = {w: report for w, report in self.workers.items() if w not in lost}
        self.ended_at_s = {w: at_s for w, at_s in self.ended_at_s.items() if w not in lost}

    def lost_groups(self) -> list[str]:
        """Groups whose workers report without them after their leases: their messages are lost.

        Nobody will ever end them, and each would keep a place of its worker for good. A worker
        that has not reported since then may be dead: its places are better left taken.
        """
        return [
            group
            for group, its in self.groups.items()
            if (report := self.workers.get(its.worker)) is not None
            and report.heartbeat_at_s > its.lease_end_s
            and group not in report.groups
        ]

    def next_deadline_s(self) -> float:
        """When the first pending job expires."""
        while self.deadlines and self.deadlines[0][1] not in self.pending:
            heapq.heappop(self.deadlines)
        return self.deadlines[0][0] if self.deadlines else float("inf")
