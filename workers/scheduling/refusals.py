"""Jobs that cannot be met any more wherever they run: better told now than at their deadline. Pure.

A job is refused only if no worker could end it in time even if it came first, in half of the time
that is predicted: a cost that is predicted wrong by less refuses nothing wrongly. Functions that
were never measured are not refused, nor is anything while no worker is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from contract.errors import DeadlineUnmeetable
from contract.store.jobs import retry_after_ms
from workers.scheduling.forecast import Forecast
from workers.scheduling.lines import Line
from workers.scheduling.records import Refusal, WorkerView

# Of what is predicted, the part that is taken as certain. Weights count for nothing: they may be
# on their way already.
CERTAIN = 0.5


def unmeetable(
    lines: Iterable[Line],
    workers: Sequence[WorkerView],
    forecast: Forecast,
    now_s: float,
) -> list[Refusal]:
    """The first jobs of each of these lines that will miss their deadline for certain."""
    if not workers:
        return []
    start_s = now_s + CERTAIN * min(view.remaining_s or 0.0 for view in workers)
    return [
        refusal
        for line in lines
        if forecast.is_measured(line.ref)
        for refusal in _of_line(line, forecast, start_s, now_s)
    ]


def _of_line(line: Line, forecast: Forecast, start_s: float, now_s: float) -> list[Refusal]:
    """Those before the first that could be met."""
    found: list[Refusal] = []
    for job in line.jobs:
        end_s = start_s + CERTAIN * forecast.compute_s(line.ref, job.rows)
        if end_s <= job.deadline_s:
            break
        is_too_long = now_s + (end_s - start_s) > job.deadline_s
        found.append(Refusal(job, end_s, "too_long" if is_too_long else "workers_busy"))
    return found


def refusal_error(refusal: Refusal, now_s: float) -> DeadlineUnmeetable:
    """What the job's caller is told: the prediction, and when it may be worth to try again."""
    job, end_s = refusal.job, refusal.earliest_end_s
    # some policies admit only what will be in time for its SLO
    limit_s = job.deadline_s if end_s > job.deadline_s else job.due_at_s
    return DeadlineUnmeetable(
        f"The job would end in {end_s - now_s:.3g} s at the earliest, "
        f"but had to in {limit_s - now_s:.3g} s.",
        reason=refusal.reason,
        earliest_end=end_s,
        deadline=limit_s,
        retry_after_ms=retry_after_ms(1000 * (end_s - limit_s)),
    )
