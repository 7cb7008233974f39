"""How long the policies take to decide, with many jobs waiting over many functions.

One decision is one call of `plan` that finds a free worker and sends it a group; the jobs it takes
are replaced, so that as many wait for the next one. Filing a job and taking it out is timed apart.
With many workers one call sends groups to all that are free; its time is that of one of them.
"""

from __future__ import annotations

import argparse
import sys
from random import Random
from statistics import median
from time import perf_counter
from typing import NamedTuple

from _report import Row, finish

from contract.function import FunctionRef
from contract.job import JobId
from contract.store.queue import GroupReport
from workers.scheduling.costs import Costs
from workers.scheduling.pending import Pending
from workers.scheduling.policies import policy_named
from workers.scheduling.records import FunctionView, Limits, PendingJob, WorkerView

# as FUSEBOX_GROUP_FUNCTIONS and FUSEBOX_GROUP_JOBS are unless they are set
LIMITS = Limits(8, 128)
# (jobs, functions, bar of the default policy in ms)
SIZES = ((1_000, 100, 0.3), (10_000, 1_000, 3.0))
# (jobs, functions, workers, of which so many are free)
FLEETS = ((1_000, 6, 64, 4), (1_000, 100, 64, 16))
# what the others have before them
BUSY_S = 0.02
POLICIES = ("laxity", "fifo", "fixed", "window", "edf")
SLOS_S = (0.05, 0.1, 0.2, 0.5)
TIMEOUT_S = 10.0
STEP_S = 0.001
NOW_S = 1e9


class Times(NamedTuple):
    """Milliseconds of decisions; microseconds of filing a job and taking it out."""

    decisions_ms: list[float]
    filing_us: float
    group_jobs: float


class _Queue:
    """Jobs that wait, always as many."""

    def __init__(self, jobs: int, functions: int) -> None:
        self._random = Random(0)
        self.refs = [FunctionRef(f"f{k}", 1) for k in range(functions)]
        self.pending, self.costs, self._number = Pending(), Costs(), 0
        for ref in self.refs:
            self.pending.functions[ref] = FunctionView(10**6, lambda n: n * 1000, 32, True)
            self._measure(ref)
        for _ in range(jobs):
            self.pending.add(self._job(NOW_S))

    def _measure(self, ref: FunctionRef) -> None:
        base_s, row_s = self._random.uniform(1e-3, 4e-3), self._random.uniform(2e-4, 2e-3)
        for rows in (1, 4, 8):
            seconds = base_s + rows * row_s
            self.costs.learn(GroupReport("g", "w", [(ref.name, 1, rows)], seconds, 0.0, 0.0))

    def _job(self, now_s: float) -> PendingJob:
        self._number += 1
        accepted_s = now_s - self._random.uniform(0, min(SLOS_S))
        due_s = accepted_s + self._random.choice(SLOS_S)
        ref, job_id = self._random.choice(self.refs), JobId(f"{self._number:024x}")
        return PendingJob(job_id, ref, 1, due_s, accepted_s + TIMEOUT_S, accepted_s)

    def replace(self, jobs: list[PendingJob], now_s: float) -> float:
        """Take these out and file as many others; seconds it took."""
        others = [self._job(now_s) for _ in jobs]
        began_s = perf_counter()
        for job in jobs:
            self.pending.remove(job.id)
        for job in others:
            self.pending.add(job)
        return perf_counter() - began_s


def measure(policy: str, jobs: int, functions: int, decisions: int) -> Times:
    """Times of this many decisions that sent a group."""
    queue, now_s = _Queue(jobs, functions), NOW_S
    decider = policy_named(policy, LIMITS)
    worker = WorkerView("w", 1, 10**9, frozenset(queue.refs))
    decisions_ms: list[float] = []
    filing_s, moved, sent = 0.0, 0, 0
    while len(decisions_ms) < decisions:
        now_s += STEP_S
        began_s = perf_counter()
        plan = decider.plan(queue.pending, [worker], queue.costs, now_s)
        took_s = perf_counter() - began_s
        taken = [job for dispatch in plan.dispatches for job in dispatch.jobs]
        if taken:
            decisions_ms.append(took_s * 1000)
            sent += len(taken)
        gone = taken + [refusal.job for refusal in plan.refused]
        filing_s += queue.replace(gone, now_s)
        moved += len(gone)
    return Times(decisions_ms, filing_s / moved * 1e6, sent / decisions)


def measure_fleet(jobs: int, functions: int, workers: int, free: int, plans: int) -> list[float]:
    """Milliseconds for each group, of so many plans."""
    queue, now_s = _Queue(jobs, functions), NOW_S
    decider = policy_named(POLICIES[0], LIMITS)
    resident = frozenset(queue.refs)
    busy = [
        WorkerView(f"b{k}", 0, 10**9, resident, BUSY_S, remaining_s=BUSY_S)
        for k in range(workers - free)
    ]
    idle = [WorkerView(f"w{k}", 1, 10**9, resident) for k in range(free)]
    found_ms = []
    for _ in range(plans):
        now_s += STEP_S
        began_s = perf_counter()
        plan = decider.plan(queue.pending, [*idle, *busy], queue.costs, now_s)
        took_s = perf_counter() - began_s
        if plan.dispatches:
            found_ms.append(1e3 * took_s / len(plan.dispatches))
        taken = [job for dispatch in plan.dispatches for job in dispatch.jobs]
        queue.replace(taken + [refusal.job for refusal in plan.refused], now_s)
    return found_ms


def main() -> int:
    """Run; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer decisions")
    parser.add_argument("--json", help="write the rows here")
    options = parser.parse_args()
    decisions = 30 if options.quick else 500
    rows: list[Row] = []
    for jobs, functions, bar_ms in SIZES:
        for policy in POLICIES:
            times = measure(policy, jobs, functions, decisions)
            case = f"{policy}, {jobs} jobs over {functions} functions"
            is_default = policy == POLICIES[0]
            value = median(times.decisions_ms)
            rows.append(
                Row(f"{case}: decision", value, "ms", bar_ms if is_default else None, False)
            )
            if is_default:
                worst = sorted(times.decisions_ms)[int(0.99 * decisions)]
                rows.append(Row(f"{case}: p99", worst, "ms"))
                rows.append(Row(f"{case}: jobs in a group", times.group_jobs, "jobs"))
                rows.append(Row(f"{case}: filing a job", times.filing_us, "us"))
    for jobs, functions, workers, free in FLEETS:
        found_ms = measure_fleet(jobs, functions, workers, free, decisions // 5)
        case = f"{POLICIES[0]}, {jobs} jobs over {functions} functions, {free} of {workers} workers"
        rows.append(Row(f"{case} free: decision for a group", median(found_ms), "ms"))
    return finish(rows, "Decision time", options.json)


if __name__ == "__main__":
    sys.exit(main())
