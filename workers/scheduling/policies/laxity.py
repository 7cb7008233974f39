"""The default policy: deadlines first, groups over all functions, no place idle.

Work-conserving: a worker that has nothing gets a group at once, so groups grow by themselves while
devices are busy. A worker that has a group gets the next one ahead, in time to hide what it takes
to begin it, and no sooner: it is better left to grow. A group is filled from the first job outward,
in the order of `order.py`, first by those of its function and then across functions where that
pays, while every member is still predicted to be in time, the bytes fit, and nobody else waits too
long (`filling.py`). What no worker can end before its deadline any more is refused
(`refusals.py`), and while late jobs get no turn, what would be late (`admission.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf

from contract.function import FunctionRef
from workers.scheduling.admission import Admission
from workers.scheduling.costs import Costs
from workers.scheduling.filling import SAFETY, Filling, Fit, longest_s
from workers.scheduling.forecast import Forecast
from workers.scheduling.groups import sent_ahead_in_s
from workers.scheduling.order import Turn, Turns
from workers.scheduling.pending import Pending
from workers.scheduling.placement import first_to_end
from workers.scheduling.records import Dispatch, Limits, Plan, WorkerView
from workers.scheduling.refusals import unmeetable

# Jobs that are looked at in vain for one group: bounds a decision's time under a long queue.
IN_VAIN = 6
# A group that computes for so long leaves the rest to other idle workers.
SPLIT_FROM_S = 0.01
# Device time by which jobs that run along with the first may put their function ahead of the next.
ALONG_S = 0.1


class LeastLaxity:
    """The default policy."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._forecast = Forecast()
        self._admission = Admission()
        # by priority, when it was served last; Unix seconds
        self._served_s: dict[int, float] = {}

    def plan(
        self, pending: Pending, workers: Sequence[WorkerView], costs: Costs, now_s: float
    ) -> Plan:
        """Groups for every place that is worth filling, and what has to be refused.

        A function too large for a worker's budget goes to that worker alone, which runs it in
        blocks, or says what bytes it would need.
        """
        if not pending:
            return Plan([])
        forecast = self._forecast.at(costs, now_s)
        refused = self._admission.refuse(pending, workers, forecast, now_s)
        gone = {refusal.job.id for refusal in refused}
        free = [worker for worker in workers if worker.free_places > 0]
        if not free:
            start_s = now_s + min((worker.remaining_s or 0.0 for worker in workers), default=0.0)
            missing = pending.missing(forecast, start_s)
            others = unmeetable(missing, workers, forecast, now_s)
            refused += [refusal for refusal in others if refusal.job.id not in gone]
            return Plan([], refused)
        decision = _Decision(pending, free, costs, forecast, self._limits, now_s, self._served_s)
        missing = pending.missing(forecast, decision.start_s)
        others = unmeetable(missing, workers, forecast, now_s)
        refused += [refusal for refusal in others if refusal.job.id not in gone]
        decision.gone.update(refusal.job.id for refusal in refused)
        dispatches = decision.dispatches()
        for dispatch in dispatches:
            self._served_s.update((job.priority, now_s) for job in dispatch.jobs)
            self._admission.note(dispatch.jobs, pending, now_s)
        return Plan(dispatches, refused, decision.wake_at_s)


class _Decision:
    """One plan while it is made."""

    def __init__(
        self,
        pending: Pending,
        free: list[WorkerView],
        costs: Costs,
        forecast: Forecast,
        limits: Limits,
        now_s: float,
        served_s: Mapping[int, float],
    ) -> None:
        self._pending, self._functions = pending, pending.functions
        self._free, self._costs, self._forecast = free, costs, forecast
        self._limits, self._now_s = limits, now_s
        self.start_s = start_s = now_s + min(worker.free_in_s for worker in free)
        self._longest_s = longest_s(pending.aims.tightest_s(now_s))
        self._turns = Turns(pending, forecast, start_s, now_s, SAFETY * self._longest_s, served_s)
        self._waiting = len(pending)
        # jobs that are refused
        self.gone: set[str] = set()
        self.wake_at_s = inf

    def dispatches(self) -> list[Dispatch]:
        """Groups, while there are places and jobs."""
        found: list[Dispatch] = []
        while self._free and (turn := self._next()) is not None:
            worker = self._place(turn)
            if worker is None:
                continue
            filling = self._fill(turn, worker)
            dispatch = filling.group.dispatch(self._functions, self._costs)
            self._waiting -= len(dispatch.jobs)
            found.append(dispatch)
            self._free.remove(worker)
            if worker.free_places > 1:
                self._free.append(_with_group(worker, dispatch.predicted_s))
        return found

    def _next(self) -> Turn | None:
        """The first job that is not refused."""
        while (turn := self._turns.first()) is not None and turn.id in self.gone:
            self._turns.take()
        return turn

    def _place(self, turn: Turn) -> WorkerView | None:
        """Where a group that begins with this job is to run; None: not now, or ask again."""
        job = turn.job
        able = [worker for worker in self._free if job.function not in worker.behind]
        if not able:
            self._turns.drop_line()
            return None
        worker = first_to_end(job, able, self._functions, self._forecast)
        if worker.under_way_s is None:
            return worker
        function = self._functions[job.function]
        swap_s = self._forecast.swap_s(function.weight_bytes)
        in_s = sent_ahead_in_s(job.function, function, worker, swap_s)
        if in_s <= 0:
            return worker
        self.wake_at_s = min(self.wake_at_s, self._now_s + in_s)
        idle = [worker for worker in able if worker.under_way_s is None]
        if not idle:
            self._free.remove(worker)
            return None
        if turn.stop - turn.at <= function.max_batch:
            # one group there takes them all, and ends sooner than weights come in here
            self._turns.drop_line()
            return None
        return first_to_end(job, idle, self._functions, self._forecast)

    def _fill(self, first: Turn, worker: WorkerView) -> Filling:
        """The first job, whatever it costs, and those after it that fit beside it."""
        turns = self._turns
        filling = Filling(
            first,
            worker,
            self._limits,
            self._functions,
            self._forecast,
            self._now_s,
            self._longest_s,
        )
        others = [w for w in self._free if w is not worker and w.under_way_s is None]
        rival = turns.rival()
        if rival is not None:
            filling.spare(rival)
        runs_along = partial(self._runs_along, filling, rival, len(others))
        turns.take_along(runs_along)
        in_vain = 0
        while in_vain < IN_VAIN and (turn := self._next()) is not None:
            if self._is_full(filling, len(others)):
                break
            if _is_better_elsewhere(turn.job.function, worker, others):
                turns.skip_line()
                continue
            # most offers are of functions that no room is left for: those need no sums
            fit = Fit.NO_MEMBER
            if filling.has(turn.job.function) or filling.room_s >= turns.least_s:
                fit = filling.offer(turn, self._waiting)
            if fit is Fit.TAKEN:
                turns.take_along(runs_along)
                continue
            in_vain += 1
            if not others:
                filling.spare(turn)
            if fit is Fit.TOO_MUCH:
                turns.skip()
            else:
                turns.skip_line()
        turns.restore()
        return filling

    def _runs_along(self, filling: Filling, rival: Turn | None, others: int, turn: Turn) -> bool:
        """Whether a job is taken out of turn: a row beside others of its function takes least."""
        if turn.id in self.gone:
            return True
        if rival is not None and turn.ahead_s > rival.ahead_s + ALONG_S:
            return False
        if self._is_full(filling, others):
            return False
        return filling.offer(turn, self._waiting) is Fit.TAKEN

    def _is_full(self, filling: Filling, others: int) -> bool:
        if len(filling.group.jobs) >= self._limits.jobs:
            return True
        return others > 0 and self._is_enough(filling, others)

    def _is_enough(self, filling: Filling, others: int) -> bool:
        """Whether the rest is better left to other workers that are idle."""
        share = self._waiting / (others + 1)
        return filling.compute_s >= SPLIT_FROM_S and len(filling.group.jobs) >= share


def _is_better_elsewhere(
    ref: FunctionRef, worker: WorkerView, others: Sequence[WorkerView]
) -> bool:
    """Whether a function is left to a worker that is idle too, or the only one that may have it."""
    if ref in worker.behind:
        return True
    return ref not in worker.resident and any(ref in other.resident for other in others)


def _with_group(worker: WorkerView, predicted_s: float) -> WorkerView:
    remaining_s = worker.remaining_s
    if worker.under_way_s is None:
        remaining_s = 0.0
    return replace(
        worker,
        free_places=worker.free_places - 1,
        under_way_s=(worker.under_way_s or 0.0) + predicted_s,
        remaining_s=None if remaining_s is None else remaining_s + predicted_s,
    )
