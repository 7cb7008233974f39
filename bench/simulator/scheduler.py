"""The scheduler's side: what waits, what it has heard, when it looks; the product's own parts."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil, inf
from statistics import fmean
from typing import NamedTuple

from contract.function import FunctionRef
from contract.job import JobId
from contract.store.queue import GroupReport
from workers.scheduling.costs import Costs
from workers.scheduling.drain import ALL, Drain
from workers.scheduling.groups import can_start
from workers.scheduling.loop import EXPIRE_EVERY_S, LEARN_EVERY_S, LOOK_EVERY_S, MEASURE_EVERY_S
from workers.scheduling.pending import Pending
from workers.scheduling.policies import Learner, Policy
from workers.scheduling.records import FunctionView, PendingJob, Plan

from .fleet import Fleet
from .worker import GroupRun, Worker

# The store blocks for a millisecond at least.
LEAST_SLEEP_S = 0.001
# enqueue.lua predicts no wait behind fewer jobs
SHORT = 4
NOTHING = Plan(())


class Turn(NamedTuple):
    """What one turn of the loop came to."""

    expired: Sequence[PendingJob]
    plan: Plan
    wake_at_s: float
    has_decided: bool


class Scheduler:
    """Holds the product's `Pending`, `Costs` and `Shares` and asks its policy."""

    def __init__(
        self,
        policy: Policy,
        costs: Costs,
        fleet: Fleet,
        workers: Sequence[Worker],
        functions: Mapping[FunctionRef, FunctionView],
    ) -> None:
        self._policy, self._costs, self._fleet = policy, costs, fleet
        self._workers = workers
        self._by_id = {worker.device.id: worker for worker in workers}
        self._pending = Pending()
        self._pending.functions.update(functions)
        self._deadlines: list[tuple[float, JobId]] = []
        self._last_turn_s = -inf
        self._admission = Admission()
        self._learner = policy if isinstance(policy, Learner) and policy.adapts else None
        self._reports: list[GroupReport] = []
        self._learn_at_s = 0.0
        mean = fmean(worker.device.speed for worker in workers)
        for worker in workers:
            worker.speed = worker.device.speed / mean
        self.is_full = False
        self.decisions = 0

    @property
    def has_news(self) -> bool:
        """Whether a policy that learns has not been told everything."""
        return bool(self._reports)

    @property
    def has_pending(self) -> bool:
        """Whether jobs wait."""
        return bool(len(self._pending))

    def worker(self, name: str) -> Worker:
        """The worker of this id."""
        return self._by_id[name]

    def admit(self, job: PendingJob, now_s: float) -> bool:
        """Let a job wait, unless too many do, or those before it take too long."""
        queued = self._pending.count(job.function.name)
        waiting = len(self._pending)
        room = self._fleet.queue_limit - waiting
        if room <= 0 or queued >= min(self._fleet.function_queue_limit, room):
            return False
        if queued >= SHORT and self._admission.wait_s(job.function.name, queued, now_s) > (
            job.deadline_s - now_s
        ):
            return False
        self._pending.add(job)
        self._admission.accepted(job.function.name)
        heapq.heappush(self._deadlines, (job.deadline_s, job.id))
        return True

    def hears_at_s(self, now_s: float) -> float:
        """When a job that is accepted now is seen: at once, or where no place is free, later."""
        if not self.is_full:
            return now_s
        looks = ceil((now_s - self._last_turn_s) / LOOK_EVERY_S)
        return self._last_turn_s + max(1, looks) * LOOK_EVERY_S

    def cannot_start(self, now_s: float) -> bool:
        """Whether a job that comes now has to wait for a signal."""
        if any(worker.is_idle for worker in self._workers):
            return False
        return not can_start(worker.view(now_s) for worker in self._workers)

    def turn(self, now_s: float) -> Turn:
        """Expire, decide; dispatched and refused jobs wait no longer."""
        self._last_turn_s = now_s
        expired = self._expired(now_s)
        if not len(self._pending):
            self._admission.note(now_s, self._pending)
            return Turn(expired, NOTHING, inf, has_decided=False)
        views = [worker.view(now_s) for worker in self._workers]
        plan = self._policy.plan(self._pending, views, self._costs, now_s)
        self.decisions += 1
        for dispatch in plan.dispatches:
            for job in dispatch.jobs:
                self._pending.remove(job.id)
        for refusal in plan.refused:
            self._pending.remove(refusal.job.id)
            self._admission.ended(refusal.job.function.name)
        self._admission.note(now_s, self._pending)
        return Turn(expired, plan, self._wake_at_s(plan, now_s), has_decided=True)

    def hear(self, group: GroupRun) -> None:
        """A worker has reported a group."""
        for job in (*group.jobs, *group.expired):
            self._admission.settled(job.function.name)
        if not group.jobs:
            return
        report = GroupReport(
            str(group.number),
            group.worker.device.id,
            [(ref.name, ref.version, count) for ref, count in group.ran.items()],
            # what it would have been on a worker of the mean speed
            group.compute_s * group.worker.speed,
            group.swap_s,
            group.build_s,
            group.loads.bytes,
            predicted_s=group.dispatch.predicted_s,
            began_at_s=group.started_s,
            ended_at_s=group.started_s + group.build_s + group.compute_s,
            jobs=len(group.jobs),
            built=int(group.build_s > 0),
            disk_bytes=group.loads.disk_bytes,
            disk_s=group.disk_s,
        )
        for ref, compute_s in self._costs.learn(report):
            self._pending.shares.charge(ref.name, compute_s)
        if self._learner is not None:
            self._reports.append(report)

    def teach(self, now_s: float) -> None:
        """Tell a policy that learns what became of its groups."""
        if self._learner is None:
            return
        for report in self._reports:
            self._learner.observe(report, now_s)
        self._reports.clear()
        if now_s >= self._learn_at_s:
            self._learner.learn()
            self._learn_at_s = now_s + LEARN_EVERY_S

    def _expired(self, now_s: float) -> list[PendingJob]:
        found = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            job = self._pending.remove(heapq.heappop(self._deadlines)[1])
            if job is not None:
                self._admission.ended(job.function.name)
                found.append(job)
        return found

    def _wake_at_s(self, plan: Plan, now_s: float) -> float:
        if not len(self._pending):
            return inf
        while self._deadlines[0][1] not in self._pending:
            heapq.heappop(self._deadlines)
        expiry_s = max(now_s + EXPIRE_EVERY_S, self._deadlines[0][0])
        return min(expiry_s, max(plan.wake_at_s, now_s + LEAST_SLEEP_S))


class Admission:
    """What `enqueue.lua` refuses by: how fast each function's jobs settle while more wait."""

    def __init__(self) -> None:
        self._drain = Drain()
        self._settled: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._waiting_since_s: dict[str, float] = {}
        self._rates: Mapping[str, float] = {}
        self._measured_at_s = -inf

    def accepted(self, name: str) -> None:
        """One more job of this function."""
        self._in_flight[name] += 1

    def ended(self, name: str) -> None:
        """One of them was refused or has expired."""
        self._in_flight[name] -= 1

    def settled(self, name: str) -> None:
        """A group ended one of them."""
        self.ended(name)
        self._settled[name] += 1
        self._settled[ALL] += 1

    def note(self, now_s: float, pending: Pending) -> None:
        """What waits after all that could be sent was sent, has to wait for others."""
        waiting = pending.names()
        if not waiting:
            self._waiting_since_s.clear()
            return
        for name in [*self._waiting_since_s]:
            if name != ALL and name not in waiting:
                del self._waiting_since_s[name]
        for name in (ALL, *waiting):
            self._waiting_since_s.setdefault(name, now_s)

    def wait_s(self, name: str, queued: int, now_s: float) -> float:
        """How long a job of this function would wait; 0 where that is not known."""
        if now_s >= self._measured_at_s + MEASURE_EVERY_S:
            self._measured_at_s = now_s
            self._rates = self._drain.rates(now_s, self._settled, self._waiting_since_s)
        rate = self._rates.get(name, 0.0)
        return max(queued, self._in_flight[name]) / rate if rate else 0.0
