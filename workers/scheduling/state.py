"""What the active scheduler holds in memory; rebuilt from Redis whenever one takes over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from contract.function import Function, FunctionRef
from contract.job import Claim, JobId, JobSpec
from contract.store.queue import Cursor, Event, GroupReport
from contract.store.workers import WorkerReport
from workers.scheduling.costs import Costs
from workers.scheduling.records import Dispatch, FunctionView, PendingJob, WorkerView


@dataclass
class State:
    """Pending jobs, functions, workers and groups under way."""

    cursor: Cursor
    # group id -> worker
    groups: dict[str, str]
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
        busy: dict[str, int] = {}
        for worker in self.groups.values():
            busy[worker] = busy.get(worker, 0) + 1
        return [
            WorkerView(
                report.id,
                report.places - busy.get(report.id, 0),
                report.budget_bytes,
                frozenset(map(FunctionRef.parse, report.functions))
                | self.arriving.get(report.id, set()),
            )
            for report in self.workers.values()
            if not report.is_draining
        ]

    def start(self, group: str, dispatch: Dispatch, claims: list[Claim]) -> None:
        """A group was claimed: its jobs wait no longer, one of the worker's places is taken."""
        for job in dispatch.jobs:
            # those not claimed were cancelled meanwhile
            self.pending.pop(job.id, None)
        if claims:
            self.groups[group] = dispatch.worker
            functions = {job.function for job in dispatch.jobs}
            self.arriving.setdefault(dispatch.worker, set()).update(functions)

    def drop_workers(self, gone: Iterable[str]) -> None:
        """Workers are gone, and their groups with them."""
        lost = set(gone)
        self.groups = {g: worker for g, worker in self.groups.items() if worker not in lost}
        self.workers = {w: report for w, report in self.workers.items() if w not in lost}

    def next_deadline_s(self) -> float:
        """When the first pending job expires."""
        return min((job.deadline_s for job in self.pending.values()), default=float("inf"))
