"""Which functions each worker is likely to get jobs of next. Pure.

Jobs that wait for a place show what will be needed before it can be sent: a worker that has its
weights in when the group comes need not swap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.forecast import Forecast
from workers.scheduling.order import Turns
from workers.scheduling.pending import Pending
from workers.scheduling.records import WorkerView

# Functions named to one worker: more will not be needed before it is told again.
NAMED = 8

Coming = dict[str, tuple[FunctionRef, ...]]


def coming(pending: Pending, workers: Iterable[WorkerView], costs: Costs, now_s: float) -> Coming:
    """By worker, functions of jobs that wait, in the order their jobs will be taken.

    A function is named to a worker that has it, so that it stays there, or else to the worker that
    has the fewest before it. Eager functions are left out: their hosts start with their jobs.
    """
    views, functions = list(workers), pending.functions
    named: dict[str, list[FunctionRef]] = {view.id: [] for view in views}
    names_left = NAMED * len(views)
    for ref in _in_order(pending, costs, now_s):
        if not names_left:
            break
        fitting = [w for w in views if functions[ref].weight_bytes <= w.budget_bytes]
        holders = [worker for worker in fitting if ref in worker.resident]
        if not fitting:
            continue
        its = min(holders or fitting, key=lambda w: (len(named[w.id]), w.under_way_s or 0.0, w.id))
        if len(named[its.id]) < NAMED:
            named[its.id].append(ref)
            names_left -= 1
    return {worker: tuple(refs) for worker, refs in named.items()}


def _in_order(pending: Pending, costs: Costs, now_s: float) -> Iterator[FunctionRef]:
    """Functions that have a graph, each by the job of it that comes first."""
    turns = Turns(pending, Forecast().at(costs, now_s), now_s, now_s)
    seen: set[FunctionRef] = set()
    while (turn := turns.first()) is not None:
        turns.drop_line()
        ref = turn.job.function
        if ref not in seen and not pending.functions[ref].is_eager:
            seen.add(ref)
            yield ref
