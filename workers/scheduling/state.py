"""What the active scheduler holds in memory; rebuilt from Redis whenever one takes over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from contract.function import Function, FunctionRef
from contract.job import Claim, JobId, JobSpec
from contract.store.queue import Cursor, Event, GroupReport
from contract.store.workers import WorkerReport
from workers.scheduling.costs import Costs
from workers.scheduling.records import Dispatch, FunctionView, PendingJob, WorkerView


class UnderWay(NamedTuple):
    """A group that a worker has."""

    worker: str
    predicted_s: float
    # when its leases run out, unless its worker has begun it and renews them; Unix seconds
    lease_end_s: float


@dataclass
class State:
    """Pending jobs, functions, workers and groups under way."""

    cursor: Cursor
    groups: dict[str, UnderWay]
    costs: Costs
    pending: dict[JobId, PendingJob] = field(default_factory=dict)
    functions: dict[FunctionRef, FunctionView] = field(default_factory=dict)
    workers: dict[str, WorkerReport] = field(default_factory=dict)
    # functions sent to a worker since its last report
    arriving: dict[str, set[FunctionRef]] = field(default_factory=dict)

    def add_jobs(self, specs: Iterable[JobSpec]) -> set[FunctionRef]:
        """Take in queued jobs; the functions that are not known yet."""
        unknown = set()
        for spec in specs:
            ref = spec.ref
            self.pending[spec.id] = PendingJob(
                spec.id, ref, spec.rows, spec.due_at_s, spec.deadline_s
            )
            if ref not in self.functions:
                unknown.add(ref)
        return unknown

    def add_function(self, function: Function) -> None:
        """Take in what the policy must know of a version."""
        manifest = function.manifest
        self.functions[function.ref] = FunctionView(
            manifest.weight_bytes,
            manifest.activation_bytes_at,
            manifest.max_batch,
            manifest.is_batchable,
            manifest.has_hooks,
        )

    def set_workers(self, reports: Iterable[WorkerReport]) -> None:
        """Take in fresh reports; what was arriving shows in them now."""
        self.workers = {report.id: report for report in reports}
        self.arriving.clear()

    def hear_all(self, events: Iterable[Event]) -> bool:
        """Take in signals; whether the workers have to be read again."""
        is_worker_news = False
        for event in events:
            if event.kind == "group":
                report = GroupReport.decode(event.data)
                self.groups.pop(report.group, None)
                if report.members:
                    self.costs.learn(report)
            is_worker_news |= event.kind == "worker"
        return is_worker_news

    def views(self) -> list[WorkerView]:
        """The workers as the policy sees them."""
        return [self._view(r) for r in self.workers.values() if not r.is_draining]

    def _view(self, report: WorkerReport) -> WorkerView:
        its_groups_s = [g.predicted_s for g in self.groups.values() if g.worker == report.id]
        return WorkerView(
            report.id,
            report.places - len(its_groups_s),
            report.budget_bytes,
            frozenset(map(FunctionRef.parse, report.functions))
            | self.arriving.get(report.id, set()),
            sum(its_groups_s) if its_groups_s else None,
        )

    def start(
        self, group: str, dispatch: Dispatch, claims: list[Claim], lease_end_s: float
    ) -> None:
        """A group was claimed: its jobs wait no longer, one of the worker's places is taken."""
        for job in dispatch.jobs:
            # those not claimed were cancelled meanwhile
            self.pending.pop(job.id, None)
        if claims:
            self.groups[group] = UnderWay(dispatch.worker, dispatch.predicted_s, lease_end_s)
            functions = {job.function for job in dispatch.jobs}
            self.arriving.setdefault(dispatch.worker, set()).update(functions)

    def drop_workers(self, gone: Iterable[str]) -> None:
        """Workers are gone, and their groups with them."""
        lost = set(gone)
        self.groups = {g: its for g, its in self.groups.items() if its.worker not in lost}
        self.workers = {w: report for w, report in self.workers.items() if w not in lost}

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
        return min((job.deadline_s for job in self.pending.values()), default=float("inf"))
