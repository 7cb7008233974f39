"""In which order jobs are taken: by due time within a function, by fair shares between functions.

A function's jobs start, in virtual time, where what it has had of the device ends. What is about to
be late goes before that order, as long as its function is not far ahead of its share: a function
that is always late gets no more than the others. What cannot be in time any more goes last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from contract.function import FunctionRef
from workers.scheduling.costs import Costs
from workers.scheduling.records import PendingJob

# A job that is due within this time is about to be late.
URGENT_WITHIN_S = 1.0
# Device time that urgent jobs of one function may take before their turn.
BURST_S = 0.5
_URGENT, _IN_TURN, _HOPELESS = range(3)


class _Rank(NamedTuple):
    kind: int
    virtual_start_s: float
    due_at_s: float
    # ids sort by the time of acceptance
    id: str


def in_order(
    jobs: Iterable[PendingJob],
    costs: Costs,
    used_s: Mapping[str, float],
    start_s: float,
    most: int,
) -> list[PendingJob]:
    """The jobs as they should be taken, at most so many of each function.

    `used_s`: device seconds that functions have had, by name; `start_s`: when a device is free.
    """
    by_function: defaultdict[str, list[PendingJob]] = defaultdict(list)
    for job in jobs:
        by_function[job.function.name].append(job)
    if not by_function:
        return []
    least_s = min(used_s.get(name, 0.0) for name in by_function)
    ranked: list[tuple[_Rank, PendingJob]] = []
    for name, own in by_function.items():
        own.sort(key=_urgency)
        ahead_s = used_s.get(name, 0.0) - least_s
        ranked += _ranked(own[:most], ahead_s, costs, start_s)
    ranked.sort()
    return [job for _, job in ranked]


def _urgency(job: PendingJob) -> tuple[float, str]:
    return job.due_at_s, job.id


def _ranked(
    jobs: list[PendingJob], ahead_s: float, costs: Costs, start_s: float
) -> Iterable[tuple[_Rank, PendingJob]]:
    """Jobs of one function, which is `ahead_s` of device time before the one that has had least."""
    cost_of: dict[tuple[FunctionRef, int], float] = {}
    for job in jobs:
        key = job.function, job.rows
        cost_s = cost_of.get(key)
        if cost_s is None:
            cost_s = cost_of[key] = costs.compute_s(*key)
        end_s = start_s + cost_s
        if end_s > job.deadline_s:
            rank = _Rank(_HOPELESS, ahead_s, job.due_at_s, job.id)
        elif end_s <= job.due_at_s <= start_s + URGENT_WITHIN_S and ahead_s <= BURST_S:
            rank = _Rank(_URGENT, 0.0, job.due_at_s, job.id)
        else:
            rank = _Rank(_IN_TURN, ahead_s, job.due_at_s, job.id)
        yield rank, job
        if rank.kind != _HOPELESS:
            ahead_s += cost_s
