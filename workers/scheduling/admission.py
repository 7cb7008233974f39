"""Whether what comes now can still be answered, told at once. Pure.

A job that is predicted to be in time for what it aims at, behind all that goes before it, is
admitted. One that is not waits behind those that are, for a gap between them; it is refused if, at
the rate at which such jobs were served of late, it would not be its turn before its deadline. So a
burst is answered late, but while more comes than can be served those who would be late hear so when
they come, and the others find a queue that is as short as they need it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from math import inf
from operator import attrgetter

from contract.function import FunctionRef
from contract.job import JobId
from workers.scheduling.ahead import Ahead, batched_s
from workers.scheduling.forecast import Forecast
from workers.scheduling.order import BURST_S
from workers.scheduling.pending import Pending
from workers.scheduling.records import PendingJob, Refusal, WorkerView

# What waits ahead is taken to last so much longer than predicted: others come that overtake.
STRETCH = 1.3
# The rate at which late jobs are served is that of so long; before, nothing is known of it.
RATE_OVER_S = 0.5
# Where none was served: what a refused caller is told is a time, if a long one.
LEAST_RATE = 0.001
# Those that wait for a gap are looked at again this often.
LOOK_EVERY_S = 0.05
# Of the time until its deadline, the part after which it should be a job's turn: those before it
# are served in another order than they came.
PATIENCE = 0.5
# ids sort by the time of acceptance
_ID = attrgetter("id")


class Admission:
    """The jobs that wait for a gap, and how fast such jobs are served."""

    def __init__(self) -> None:
        # in the order they came
        self._late: dict[JobId, PendingJob] = {}
        self._late_rows: dict[FunctionRef, int] = {}
        # functions of which these have changed since the others were added up
        self._touched: set[FunctionRef] = set()
        self._ahead = Ahead()
        # device time of them, as far as they were looked at
        self._late_s = 0.0
        # since when some have waited without a break; Unix seconds
        self._since_s = inf
        # when how much device time of late jobs was served
        self._served: deque[tuple[float, float]] = deque()
        self._looked_at_s = -inf

    def refuse(
        self, pending: Pending, workers: Sequence[WorkerView], forecast: Forecast, now_s: float
    ) -> list[Refusal]:
        """Look at what has come since the last time; what need not wait any longer."""
        arrived = pending.take_arrived()
        if not workers:
            return []
        start_s = now_s + min(worker.free_in_s for worker in workers)
        power = sum(worker.speed for worker in workers)
        known = len(self._late)
        self._ahead.look(pending, forecast, self._late_rows)
        for job in arrived:
            is_known = job.id in pending and job.function in pending.functions
            if not is_known or not forecast.is_measured(job.function):
                continue
            ahead_s = STRETCH * self._ahead_s(job, pending, forecast) / power
            if start_s + ahead_s > job.due_at_s:
                self._wait(job)
        if now_s >= self._looked_at_s + LOOK_EVERY_S:
            self._note_slipped(pending, forecast, start_s)
            self._drop_gone(pending)
            known, self._late_s = 0, 0.0
            if self._late:
                self._looked_at_s = now_s
        if len(self._late) == known:
            return []
        # the others were looked at a moment ago
        fresh = list(islice(reversed(self._late.values()), len(self._late) - known))
        return self._hopeless(fresh[::-1], forecast, start_s, now_s)

    def note(self, jobs: Iterable[PendingJob], forecast: Forecast, now_s: float) -> None:
        """These jobs were sent to a worker."""
        for job in jobs:
            if self._forget(job.id):
                compute_s = forecast.compute_s(job.function, job.rows)
                self._served.append((now_s, compute_s))
                self._late_s = max(0.0, self._late_s - compute_s)

    def waiting(self) -> Sequence[JobId]:
        """Those that wait for a gap, as far as is known."""
        return list(self._late)

    def note_idle(self) -> None:
        """Nothing waits: whoever comes next may find gaps."""
        self._touched.update(self._late_rows)
        self._late.clear()
        self._late_rows.clear()
        self._late_s, self._since_s = 0.0, inf

    def _note_slipped(self, pending: Pending, forecast: Forecast, start_s: float) -> None:
        """Others that were admitted and cannot be in time any more: runs took longer."""
        slipped: list[PendingJob] = []
        for line in pending.slipping(forecast, start_s):
            if not forecast.is_measured(line.ref):
                continue
            for job in line.jobs:
                if start_s + forecast.compute_s(line.ref, job.rows) <= job.due_at_s:
                    break
                if job.id not in self._late:
                    slipped.append(job)
        for job in sorted(slipped, key=_ID):
            self._wait(job)

    def _wait(self, job: PendingJob) -> None:
        if job.id not in self._late:
            self._late[job.id] = job
            rows = self._late_rows.get(job.function, 0)
            self._late_rows[job.function] = rows + job.rows
            self._touched.add(job.function)

    def _forget(self, job_id: JobId) -> bool:
        job = self._late.pop(job_id, None)
        if job is None:
            return False
        self._touched.add(job.function)
        self._late_rows[job.function] -= job.rows
        if not self._late_rows[job.function]:
            del self._late_rows[job.function]
        return True

    def _drop_gone(self, pending: Pending) -> None:
        for job_id in [job_id for job_id in self._late if job_id not in pending]:
            self._forget(job_id)

    def _hopeless(
        self, jobs: Iterable[PendingJob], forecast: Forecast, start_s: float, now_s: float
    ) -> list[Refusal]:
        """Of these, behind the others that wait, whose turn would come too late at their rate."""
        self._since_s = min(self._since_s, now_s)
        rate = self._rate(now_s)
        refused: list[Refusal] = []
        for job in jobs:
            compute_s = forecast.compute_s(job.function, job.rows)
            end_s = inf if rate is None else start_s + (self._late_s + compute_s) / rate
            if rate is not None and end_s - now_s > PATIENCE * (job.deadline_s - now_s):
                refused.append(Refusal(job, end_s, "overloaded"))
            else:
                self._late_s += compute_s
        for refusal in refused:
            self._forget(refusal.job.id)
        return refused

    def _rate(self, now_s: float) -> float | None:
        """Device seconds of late jobs served per second; None where they have not waited long."""
        while self._served and self._served[0][0] < now_s - RATE_OVER_S:
            self._served.popleft()
        if now_s - self._since_s < RATE_OVER_S:
            return None
        return max(LEAST_RATE, sum(seconds for _, seconds in self._served) / RATE_OVER_S)

    def _ahead_s(self, job: PendingJob, pending: Pending, forecast: Forecast) -> float:
        """Device time of all that is in time and goes before it, and its own."""
        ref = job.function
        if self._touched:
            self._ahead.look_again(self._touched, pending, forecast, self._late_rows)
            self._touched.clear()
        # those that are due later run along with others of their function
        rows = max(0, pending.rows_before(job) - self._late_rows.get(ref, 0))
        own_s = batched_s(ref, rows + job.rows, pending, forecast)
        # a function that has had its share waits for this one
        return own_s + self._ahead.others_s(ref, max(own_s, BURST_S))
