"""Whether what comes now can still be answered, told at once. Pure.

A job that is predicted to be in time for what it aims at, behind all that goes before it, is
admitted. One that is not waits behind those that are, for a gap between them; it is refused if, at
the rate at which such jobs were served of late, it would not be its turn before its deadline. So a
burst is answered late, but while more comes than can be served those who would be late hear so when
they come, and the others find a queue that is as short as they need it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterable, Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from contract.function import FunctionRef
from contract.job import JobId
from workers.scheduling.forecast import Forecast
from workers.scheduling.heads import Floats, batched_s
from workers.scheduling.lines import Line
from workers.scheduling.order import BURST_S
from workers.scheduling.pending import Pending
from workers.scheduling.records import PendingJob, Refusal, WorkerView

# What waits ahead is taken to last so much longer than predicted: others come that overtake.
STRETCH = 1.3
# The rate at which late jobs are served is that of so long; before, nothing is known of it.
RATE_OVER_S = 0.5
# Who comes after a time without late jobs is not judged by those of before.
CALM_S = 0.5
# Where none was served: what a refused caller is told is a time, if a long one.
LEAST_RATE = 0.001
# Those that wait for a gap are looked at again this often, and for each of so many as much later.
LOOK_EVERY_S = 0.02
LOOK_AT = 500
# Of the time until its deadline, the part after which it should be a job's turn: those before it
# are served in another order than they came.
PATIENCE = 0.3


class _Late(NamedTuple):
    """A job that waits for a gap."""

    job: PendingJob
    compute_s: float


class _Work:
    """Device time of what waits for no gap, by line."""

    def __init__(self, work_s: Floats) -> None:
        self._work_s = work_s
        self.total_s = float(work_s.sum())
        self._most_s = BURST_S
        self._capped_s = float(np.minimum(work_s, BURST_S).sum())

    def others_s(self, line: Line, most_s: float) -> float:
        """Of all lines but this one, no more of any than `most_s`."""
        if most_s != self._most_s:
            self._most_s = most_s
            self._capped_s = float(np.minimum(self._work_s, most_s).sum())
        return self._capped_s - min(float(self._work_s[line.row]), most_s)


class Admission:
    """The jobs that wait for a gap, and how fast such jobs are served."""

    def __init__(self) -> None:
        # in the order they came
        self._late: dict[JobId, _Late] = {}
        # their device time in all, and rows by function and priority
        self._late_s = 0.0
        self._rows: Counter[tuple[FunctionRef, int]] = Counter()
        # since when some have waited without a break; Unix seconds
        self._since_s = inf
        # when how much device time of late jobs was served
        self._served: deque[tuple[float, float]] = deque()
        self._served_s = 0.0
        # when one was late last
        self._late_at_s = -inf
        self._look_at_s = -inf

    def refuse(
        self, pending: Pending, workers: Sequence[WorkerView], forecast: Forecast, now_s: float
    ) -> list[Refusal]:
        """Look at what has come since the last time; what need not wait any longer."""
        arrived = pending.take_arrived()
        if not workers:
            return []
        start_s = now_s + min(worker.free_in_s for worker in workers)
        power = sum(worker.speed for worker in workers)
        if self._late:
            self._late_at_s = now_s
        elif now_s > self._late_at_s + CALM_S:
            self._since_s = inf
        rate = self._rate(now_s)
        refused: list[Refusal] = []
        for job in self._to_be_late(arrived, pending, forecast, start_s, power):
            its = _Late(job, forecast.compute_s(job.function, job.rows))
            self._late_at_s = now_s
            refusal = _judged(its, self._late_s, rate, start_s, now_s)
            if refusal is None:
                self._wait(its, pending, now_s)
            else:
                refused.append(refusal)
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S * (1 + len(self._late) / LOOK_AT)
            told = {refusal.job.id for refusal in refused}
            self._note_slipped(pending, told, forecast, start_s, now_s)
            refused += self._hopeless(pending, rate, start_s, now_s)
        return refused

    def note(self, jobs: Iterable[PendingJob], pending: Pending, now_s: float) -> None:
        """These jobs are sent to a worker."""
        for job in jobs:
            its = self._forget(job.id, pending)
            if its is not None:
                self._served.append((now_s, its.compute_s))
                self._served_s += its.compute_s

    def waiting(self) -> Sequence[JobId]:
        """Those that wait for a gap, as far as is known."""
        return list(self._late)

    def _to_be_late(
        self,
        arrived: Iterable[PendingJob],
        pending: Pending,
        forecast: Forecast,
        start_s: float,
        power: float,
    ) -> list[PendingJob]:
        """Those that would not be in time behind all that is in time and goes before them."""
        known = [job for job in arrived if job.id in pending and forecast.is_measured(job.function)]
        if not known:
            return []
        work = _Work(pending.heads.work_s(forecast))
        found = []
        for job in known:
            left_s = (job.due_at_s - start_s) * power / STRETCH
            if work.total_s > left_s and _is_longer(job, left_s, work, pending, forecast):
                found.append(job)
        return found

    def _wait(self, its: _Late, pending: Pending, now_s: float) -> None:
        if its.job.id in self._late:
            return
        self._late[its.job.id] = its
        self._late_s += its.compute_s
        self._since_s = min(self._since_s, now_s)
        self._count(its.job, its.job.rows, pending)

    def _forget(self, job_id: JobId, pending: Pending) -> _Late | None:
        its = self._late.pop(job_id, None)
        if its is not None:
            self._late_s -= its.compute_s
            self._count(its.job, -its.job.rows, pending)
        return its

    def _count(self, job: PendingJob, rows: int, pending: Pending) -> None:
        """So many rows more of its line wait for a gap."""
        key = job.function, job.priority
        self._rows[key] += rows
        line = pending.line_of(*key)
        if line is not None:
            pending.heads.set_gap_rows(line, self._rows[key])
        if not self._rows[key]:
            del self._rows[key]

    def _note_slipped(
        self,
        pending: Pending,
        told: Container[JobId],
        forecast: Forecast,
        start_s: float,
        now_s: float,
    ) -> None:
        """Others that were admitted and cannot be in time any more: runs took longer."""
        for line in pending.late(forecast, start_s):
            if not forecast.is_measured(line.ref):
                continue
            for job in line.jobs:
                compute_s = forecast.compute_s(line.ref, job.rows)
                if start_s + compute_s <= job.due_at_s:
                    break
                if job.id not in told:
                    self._wait(_Late(job, compute_s), pending, now_s)

    def _hopeless(
        self, pending: Pending, rate: float | None, start_s: float, now_s: float
    ) -> list[Refusal]:
        """Those whose turn would come too late, at the rate of late."""
        for job_id in [job_id for job_id in self._late if job_id not in pending]:
            self._forget(job_id, pending)
        refused: list[Refusal] = []
        before_s = 0.0
        for its in self._late.values():
            refusal = _judged(its, before_s, rate, start_s, now_s)
            if refusal is None:
                before_s += its.compute_s
            else:
                refused.append(refusal)
        for refusal in refused:
            self._forget(refusal.job.id, pending)
        return refused

    def _rate(self, now_s: float) -> float | None:
        """Device seconds of late jobs served per second; None where they have not waited long."""
        while self._served and self._served[0][0] < now_s - RATE_OVER_S:
            self._served_s -= self._served.popleft()[1]
        if not self._served:
            # what is left is of rounding
            self._served_s = 0.0
        if now_s - self._since_s < RATE_OVER_S:
            return None
        return max(LEAST_RATE, self._served_s / RATE_OVER_S)


def _is_longer(
    job: PendingJob, left_s: float, work: _Work, pending: Pending, forecast: Forecast
) -> bool:
    """Whether what goes before it and its own take more device time than is left.

    Those of other lines that are due later run along with others of their function.
    """
    line = pending.line_of(job.function, job.priority)
    assert line is not None, "it waits"
    others_s = work.others_s(line, BURST_S)
    if others_s > left_s:
        return True
    rows = line.rows_before(job) - line.gap_rows
    own_s = batched_s(job.function, max(0, rows) + job.rows, forecast)
    if own_s > BURST_S:
        # a function that has had its share waits for this one
        others_s = work.others_s(line, own_s)
    return own_s + others_s > left_s


def _judged(
    its: _Late, before_s: float, rate: float | None, start_s: float, now_s: float
) -> Refusal | None:
    """The refusal of a job whose turn would be too late behind so much; None if nobody knows."""
    if rate is None:
        return None
    end_s = start_s + (before_s + its.compute_s) / rate
    if end_s - now_s <= PATIENCE * (its.job.deadline_s - now_s):
        return None
    return Refusal(its.job, end_s, "overloaded")
