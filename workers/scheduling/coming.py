"""Which functions each worker is likely to get jobs of next. Pure.

Jobs that wait for a place show what will be needed before it can be sent: a worker that has its
weights in when the group comes need not swap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.order import in_order
from workers.scheduling.records import FunctionView, PendingJob, WorkerView

# Functions named to one worker: more will not be needed before it is told again.
NAMED = 8

Coming = dict[str, tuple[FunctionRef, ...]]


def coming(
    pending: Iterable[PendingJob],
    workers: Iterable[WorkerView],
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs,
    used_s: Mapping[str, float],
    now_s: float,
) -> Coming:
    """By worker, functions of jobs that wait, in the order their jobs will be taken.

    A function is named to a worker that has it, so that it stays there, or else to the worker that
    has the fewest before it. Eager functions are left out: their hosts start with their jobs.
    """
    views = list(workers)
    named: dict[str, list[FunctionRef]] = {view.id: [] for view in views}
    for job in in_order(_first(pending, functions), costs, used_s, now_s, NAMED):
        ref = job.function
        fitting = [w for w in views if functions[ref].weight_bytes <= w.budget_bytes]
        holders = [worker for worker in fitting if ref in worker.resident]
        if not fitting:
            continue
        its = min(holders or fitting, key=lambda w: (len(named[w.id]), w.under_way_s or 0.0, w.id))
        if len(named[its.id]) < NAMED:
            named[its.id].append(ref)
    return {worker: tuple(refs) for worker, refs in named.items()}


def _first(
    pending: Iterable[PendingJob], functions: Mapping[FunctionRef, FunctionView]
) -> Iterable[PendingJob]:
    """The most urgent job of each function that has a graph."""
    first: dict[FunctionRef, PendingJob] = {}
    for job in pending:
        known = first.get(job.function)
        if known is None or (job.due_at_s, job.id) < (known.due_at_s, known.id):
            first[job.function] = job
    return (job for ref, job in first.items() if ref in functions and not functions[ref].is_eager)
