"""The clock: events in order of time, from calls to answers."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from contract.function import FunctionRef
from contract.job import JobId
from workers.scheduling.costs import Costs
from workers.scheduling.loop import CLAIM_AT_ONCE
from workers.scheduling.policies import Policy, policy_named
from workers.scheduling.records import PendingJob

from .fleet import Fleet
from .profiles import Draw, Profile
from .report import Answer, GroupRecord, JobRecord, Report
from .scheduler import Scheduler
from .worker import GroupRun, Worker
from .workloads import Call, Workload

Heard = Callable[[JobRecord], None]


def simulate(
    policy: str | Policy,
    workload: Workload,
    fleet: Fleet,
    profile: Profile,
    seed: int,
    *,
    costs: Costs | None = None,
    heard: Heard | None = None,
    keeps_groups: bool = False,
) -> Report:
    """Run a workload until every job has ended.

    `policy`: a name as in FUSEBOX_POLICY, or one that is made already; `costs`: what was learned
    before, else each function is known as a probe at deploy tells it;
    `heard` is told of every job as it ends.
    """
    if isinstance(policy, str):
        policy = policy_named(policy, fleet.limits)
    if costs is None:
        costs = probed(profile)
    run = _Run(policy, workload, fleet, profile, seed, costs, heard, keeps_groups)
    return run.until_over()


def probed(profile: Profile) -> Costs:
    """Costs before any run: what was measured of each function at deploy, least and most rows."""
    costs, draw = Costs(), Draw(profile, Random(0))
    for name, function in profile.functions.items():
        rows = {min(function.compute_s), max(function.compute_s)}
        costs.expect(FunctionRef(name, 1), {count: draw.mean_s(name, count) for count in rows})
    return costs


class _Run:
    """One simulation."""

    def __init__(
        self,
        policy: Policy,
        workload: Workload,
        fleet: Fleet,
        profile: Profile,
        seed: int,
        costs: Costs,
        heard: Heard | None,
        keeps_groups: bool,
    ) -> None:
        self._random = Random(seed)
        self._draw = Draw(profile, self._random)
        self._profile, self._workload, self._heard = profile, workload, heard
        self._delays = profile.delays
        self._functions = {FunctionRef(n, 1): f.view() for n, f in profile.functions.items()}
        self._refs = {ref.name: ref for ref in self._functions}
        self._workers = [
            Worker(device, self._functions, self._draw, profile.bandwidth, fleet.is_warm)
            for device in fleet.devices
        ]
        self._scheduler = Scheduler(policy, costs, fleet, self._workers, self._functions)
        self._calls: dict[JobId, Call] = {}
        # time, order of entry, what to do, with what
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._order = count()
        self._round_at_s = float("inf")
        self._free_at_s = 0.0
        self._arrivals = iter(workload.calls)
        self._numbers = count()
        self._group_numbers = count()
        self._keeps_groups = keeps_groups
        functions = profile.functions.items()
        self._report = Report(
            {name: its.slo_s for name, its in functions},
            {name: its.timeout_s for name, its in functions},
        )

    def until_over(self) -> Report:
        """Every event in turn."""
        self._next_arrival()
        events, pop, slowness = self._events, heapq.heappop, self._draw.slowness
        while events:
            at_s, _, what, subject = pop(events)
            if slowness is not None:
                slowness.turn_to(at_s)
            what(at_s, subject)
        assert not self._calls, f"{len(self._calls)} jobs never ended"
        for worker in self._workers:
            worker.weights.check_integrity()
            self._report.busy_s[worker.device.id] = worker.busy_s
            self._report.loads += worker.loads
            self._report.loaded_bytes += worker.loaded_bytes
            self._report.builds += worker.builds
        self._report.decisions = self._scheduler.decisions
        return self._report

    def _at(self, at_s: float, what: Callable[..., None], subject: Any = None) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), what, subject))

    def _next_arrival(self) -> None:
        call = next(self._arrivals, None)
        if call is not None:
            self._at(call.at_s, self._arrive, call)

    def _arrive(self, at_s: float, call: Call) -> None:
        """A call is sent; the scheduler hears of it in a moment."""
        self._next_arrival()
        self._at(at_s + self._draw.one(self._delays.accept_s), self._accept, call)

    def _accept(self, at_s: float, call: Call) -> None:
        function = self._profile.functions[call.function]
        job = PendingJob(
            JobId(f"{next(self._numbers):024x}"),
            self._refs[call.function],
            call.rows,
            at_s + function.slo_s,
            at_s + function.timeout_s,
            at_s,
        )
        self._calls[job.id] = call
        if not self._scheduler.admit(job, at_s):
            self._end(job, at_s, Answer.REFUSED)
            return
        self._ask(max(self._free_at_s, self._scheduler.hears_at_s(at_s)))

    def _ask(self, at_s: float) -> None:
        """The scheduler is to look at this time, if it does not before."""
        if at_s < self._round_at_s:
            self._round_at_s = at_s
            self._at(at_s, self._round)

    def _round(self, now_s: float, _: None) -> None:
        """One turn of the scheduler's loop."""
        if now_s != self._round_at_s:
            return
        self._round_at_s = float("inf")
        turn = self._scheduler.turn(now_s)
        for job in turn.expired:
            self._end(job, now_s, Answer.EXPIRED)
        dispatches, at_s = turn.plan.dispatches, now_s
        if turn.has_decided:
            # for each group once more
            for _ in dispatches or (None,):
                at_s += self._draw.one(self._delays.decide_s)
        for refusal in turn.plan.refused:
            self._end(refusal.job, at_s, Answer.REFUSED)
        for number, dispatch in enumerate(dispatches):
            if number % CLAIM_AT_ONCE == 0:
                at_s += self._draw.one(self._delays.claim_s)
            at_s += self._draw.one(self._delays.message_s)
            worker = self._scheduler.worker(dispatch.worker)
            group = GroupRun(next(self._group_numbers), worker, dispatch, dispatch.jobs)
            worker.send(group, at_s)
            self._at(at_s + self._staging_s(group), self._stage, group)
        self._free_at_s = at_s
        self._report.scheduler_s += at_s - now_s
        self._scheduler.is_full = self._scheduler.cannot_start(at_s)
        if turn.wake_at_s < float("inf"):
            self._ask(max(turn.wake_at_s, at_s))
        self._scheduler.teach(at_s)

    def _staging_s(self, group: GroupRun) -> float:
        """Until its inputs are there: hooks run side by side."""
        functions = self._profile.functions
        hooks_s = [self._draw.one(functions[ref.name].pre_s) for ref in group.rows]
        return self._draw.one(self._delays.send_s) + max(hooks_s)

    def _stage(self, now_s: float, group: GroupRun) -> None:
        if group.worker.stage(group):
            self._swapped(now_s, group)

    def _swapped(self, now_s: float, group: GroupRun) -> None:
        if group.swap_s:
            self._at(now_s + group.swap_s, self._ready, group)
        else:
            self._ready(now_s, group)

    def _ready(self, now_s: float, group: GroupRun) -> None:
        group.worker.make_ready(group)
        self._compute(now_s, group.worker)

    def _compute(self, now_s: float, worker: Worker) -> None:
        group = worker.next_run(now_s)
        if group is not None:
            self._at(now_s + group.build_s + group.compute_s, self._computed, group)

    def _computed(self, now_s: float, group: GroupRun) -> None:
        group.worker.end_run(group)
        for other in group.worker.unstarved():
            self._swapped(now_s, other)
        self._compute(now_s, group.worker)
        functions = self._profile.functions
        hooks_s = max((self._draw.one(functions[ref.name].post_s) for ref in group.rows), default=0)
        self._at(now_s + hooks_s + self._draw.one(self._delays.settle_s), self._settle, group)

    def _settle(self, now_s: float, group: GroupRun) -> None:
        group.worker.heard(group, now_s)
        self._scheduler.hear(group)
        self._report.group_count += 1
        if self._keeps_groups and group.compute_s:
            self._report.groups.append(_record(group))
        for job in group.expired:
            self._end(job, now_s, Answer.EXPIRED)
        for job in group.jobs:
            self._end(job, now_s, Answer.ANSWERED, group)
        # a policy that learns is told in the same turn
        if self._scheduler.has_pending or self._scheduler.has_news:
            self._ask(max(self._free_at_s, now_s))

    def _end(
        self, job: PendingJob, at_s: float, outcome: Answer, group: GroupRun | None = None
    ) -> None:
        call = self._calls.pop(job.id)
        answered_s = at_s + self._draw.one(self._delays.answer_s)
        started_s, number = (group.started_s, group.number) if group else (float("nan"), -1)
        record = JobRecord(
            call.function, call.at_s, started_s, answered_s, outcome, number, call.rows
        )
        self._report.add(record)
        if self._heard is not None:
            self._heard(record)
        if self._workload.then is not None:
            following = self._workload.then(call, answered_s)
            if following is not None:
                delay_s = self._draw.one(self._delays.accept_s)
                self._at(following.at_s + delay_s, self._accept, following)


def _record(group: GroupRun) -> GroupRecord:
    return GroupRecord(
        group.number,
        group.worker.device.id,
        group.started_s,
        group.started_s + group.build_s + group.compute_s,
        {ref.name: rows for ref, rows in group.rows.items()},
        group.dispatch.predicted_s,
        group.compute_s,
        group.swap_s,
    )
