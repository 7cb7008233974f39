"""Jobs that cannot be met any more wherever they run: better told now than at their deadline. Pure.

A job is refused only if no worker could end it in time even if it came first, in half of the time
that is predicted: a cost that is predicted wrong by less refuses nothing wrongly. Functions that
were never measured are not refused, nor is anything while no worker is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.scheduling.forecast import Forecast
from workers.scheduling.pending import Line, Pending
from workers.scheduling.records import Refusal, WorkerView

# Of what is predicted, the part that is taken as certain. Weights count for nothing: they may be
# on their way already.
CERTAIN = 0.5


def unmeetable(
    pending: Pending, workers: Sequence[WorkerView], forecast: Forecast, now_s: float
) -> list[Refusal]:
    """The first jobs of each function that will miss their deadline for certain."""
    if not workers:
        return []
    start_s = now_s + CERTAIN * min(view.remaining_s or 0.0 for view in workers)
    found: list[Refusal] = []
    several = pending.priorities() > 1
    for line in pending.lines():
        first = line.jobs[0]
        cost_s = CERTAIN * forecast.compute_s(line.ref, first.rows)
        if (several or first.deadline_s < start_s + cost_s) and forecast.is_measured(line.ref):
            found += _of_line(line, forecast, start_s)
    return found


def _of_line(line: Line, forecast: Forecast, start_s: float) -> list[Refusal]:
    """Those of each priority up to the first that could be met."""
    found: list[Refusal] = []
    first = 0
    while first < len(line.jobs):
        stop = line.span(line.jobs[first].priority)[1]
        for job in line.jobs[first:stop]:
            end_s = start_s + CERTAIN * forecast.compute_s(line.ref, job.rows)
            if end_s <= job.deadline_s:
                break
            found.append(Refusal(job, end_s))
        first = stop
    return found
