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
from math import inf

from contract.function import FunctionRef
from contract.job import JobId
from workers.scheduling.forecast import Forecast
from workers.scheduling.order import BURST_S
from workers.scheduling.pending import Line, Pending
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


class Admission:
    """The jobs that wait for a gap, and how fast such jobs are served."""

    def __init__(self) -> None:
        # in the order they came
        self._late: dict[JobId, PendingJob] = {}
        self._late_rows: dict[FunctionRef, int] = {}
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
        has_late = False
        for job in arrived:
            if job.id not in pending or not forecast.is_measured(job.function):
                continue
            ahead_s = STRETCH * self._ahead_s(job, pending, forecast) / power
            if start_s + ahead_s > job.due_at_s:
                self._wait(job)
                has_late = True
        is_due = now_s >= self._looked_at_s + LOOK_EVERY_S
        if is_due:
            self._note_slipped(pending, forecast, start_s)
        if not self._late or not (has_late or is_due):
            return []
        return self._hopeless(pending, forecast, start_s, now_s)

    def note(self, jobs: Iterable[PendingJob], forecast: Forecast, now_s: float) -> None:
        """These jobs were sent to a worker."""
        for job in jobs:
            if self._forget(job.id):
                self._served.append((now_s, forecast.compute_s(job.function, job.rows)))

    def waiting(self) -> Sequence[JobId]:
        """Those that wait for a gap, as far as is known."""
        return list(self._late)

    def note_idle(self) -> None:
        """Nothing waits: whoever comes next may find gaps."""
        self._late.clear()
        self._late_rows.clear()
        self._since_s = inf

    def _note_slipped(self, pending: Pending, forecast: Forecast, start_s: float) -> None:
        """Others that were admitted and cannot be in time any more: runs took longer."""
        for line in pending.lines():
            if not forecast.is_measured(line.ref):
                continue
            for job in line.jobs:
                if start_s + forecast.compute_s(line.ref, job.rows) <= job.due_at_s:
                    break
                self._wait(job)

    def _wait(self, job: PendingJob) -> None:
        if job.id not in self._late:
            self._late[job.id] = job
            rows = self._late_rows.get(job.function, 0)
            self._late_rows[job.function] = rows + job.rows

    def _forget(self, job_id: JobId) -> bool:
        job = self._late.pop(job_id, None)
        if job is None:
            return False
        self._late_rows[job.function] -= job.rows
        if not self._late_rows[job.function]:
            del self._late_rows[job.function]
        return True

    def _hopeless(
        self, pending: Pending, forecast: Forecast, start_s: float, now_s: float
    ) -> list[Refusal]:
        """Those whose turn would come too late, at the rate of late."""
        self._looked_at_s = now_s
        for job_id in [job_id for job_id in self._late if job_id not in pending]:
            self._forget(job_id)
        if self._late:
            self._since_s = min(self._since_s, now_s)
        rate = self._rate(now_s)
        if rate is None:
            return []
        refused: list[Refusal] = []
        before_s = 0.0
        for job in self._late.values():
            compute_s = forecast.compute_s(job.function, job.rows)
            end_s = start_s + (before_s + compute_s) / rate
            if end_s - now_s > PATIENCE * (job.deadline_s - now_s):
                refused.append(Refusal(job, end_s, "overloaded"))
            else:
                before_s += compute_s
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
        own_s = 0.0
        others_s: list[float] = []
        for line in pending.lines():
            is_own = line.ref == job.function
            # those that are due later run along with others of their function
            rows = (line.rows_before(job) if is_own else line.rows) - self._late_rows.get(
                line.ref, 0
            )
            if is_own:
                own_s = self._batched_s(line, max(rows, 0) + job.rows, pending, forecast)
            elif rows > 0:
                others_s.append(self._batched_s(line, rows, pending, forecast))
        # a function that has had its share waits for this one
        most_s = max(own_s, BURST_S)
        return own_s + sum(min(seconds, most_s) for seconds in others_s)

    @staticmethod
    def _batched_s(line: Line, rows: int, pending: Pending, forecast: Forecast) -> float:
        most = pending.functions[line.ref].max_batch
        if rows <= most:
            return forecast.compute_s(line.ref, rows)
        return forecast.compute_s(line.ref, most) * rows / most
