"""In which order jobs are taken: by due time within a function, by fair shares between functions.

A function's jobs start, in virtual time, where what it has had of the device ends. What is about to
be late goes before that order, as long as its function is not far ahead of its share: a function
that is always late gets no more than the others. What has no laxity left, due before it could end,
goes behind what has, unless its function is owed much; what would miss its deadline goes last.

Higher priorities go first, whatever is due, for a while (`parts.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from operator import attrgetter
from typing import NamedTuple

from contract.job import JobId
from workers.scheduling.forecast import Forecast
from workers.scheduling.parts import NEVER, Part, parts_of
from workers.scheduling.pending import Line, Pending
from workers.scheduling.records import PendingJob

# A job that is due within this time is about to be late.
URGENT_WITHIN_S = 1.0
# Device time that urgent jobs of one function may take before their turn.
BURST_S = 0.5
# A function that has had so much less than another gets its turn though its jobs are late.
OWED_S = 2.0
# Where as large a part of what waits is late, one in so many, more comes than can be served.
OVERLOADED = 4
_URGENT, _IN_TURN, _LATE, _HOPELESS = range(4)
# behind every priority
_LAST = 1_000
_DEADLINE = attrgetter("deadline_s")


class Turn(NamedTuple):
    """A job, where it stands among all, and what comes after it in its line. Sorts by turn."""

    # of its priority among those that wait
    place: int
    kind: int
    virtual_start_s: float
    due_at_s: float
    # ids sort by the time of acceptance; no job is twice in the heap
    id: JobId
    job: PendingJob
    line: Line
    at: int
    stop: int
    # device time of its function before that of the one that has had least
    ahead_s: float
    # whether its due time cannot be met
    is_late: bool

    @property
    def until_s(self) -> float:
        """When it should have ended."""
        return self.job.deadline_s if self.is_late else self.due_at_s


class Turns:
    """The jobs that wait, in the order in which they should be taken; the queue stays as it is.

    `start_s`: when a device is free; `served_s`: when a job of each priority was served last;
    `target_s`: how long groups are where many wait. Under
    overload what could not bear such a group is given up for what can, or every group would be a
    single job that is nearly late (early drop of Nexus; Shen et al., SOSP 2019).
    It takes O(functions) to begin and O(log functions) for each job.
    """

    def __init__(
        self,
        pending: Pending,
        forecast: Forecast,
        start_s: float,
        now_s: float,
        target_s: float = 0.0,
        served_s: Mapping[int, float] = NEVER,
    ) -> None:
        self._forecast = forecast
        self._start_s = start_s
        self._urgent_until_s = start_s + URGENT_WITHIN_S
        self._used_s = used_s = pending.shares.used_s
        had_s = [used_s.get(name, 0.0) for name in pending.names()]
        self._least_s = min(had_s, default=0.0)
        self._owed_until_s = max(had_s, default=0.0) - self._least_s - OWED_S
        self._heap: list[Turn] = []
        self._skipped: list[Turn] = []
        # parts of lines that are late, until it is their turn
        self._late_parts: list[Part] = []
        # lines of which some jobs are late
        self.late: list[Line] = []
        if pending.due_before(start_s) * OVERLOADED < len(pending):
            target_s = 0.0
        for part in parts_of(pending, now_s, served_s):
            self._enter(*part, target_s)
        if pending.priorities() > 1:
            # late jobs of a higher priority do not wait for those of a lower one
            self._take_in_late()
        heapify(self._heap)

    def first(self) -> Turn | None:
        """Whose turn it is now."""
        if not self._heap:
            self._take_in_late()
            heapify(self._heap)
        while self._heap:
            turn = self._heap[0]
            job = turn.job
            end_s = self._start_s + self._forecast.compute_s(job.function, job.rows)
            if end_s <= turn.until_s or turn.kind == _HOPELESS:
                return turn
            # it has more rows than those before it in its line, or less time
            self.take()
            is_hopeless = turn.is_late or end_s > job.deadline_s
            single = (job, turn.line, turn.at, turn.at + 1, turn.ahead_s)
            place = _LAST if is_hopeless else turn.place
            heappush(self._heap, self._late(place, *single, is_hopeless=is_hopeless))
        return None

    def take(self) -> None:
        """It is served, and its function has had so much more."""
        turn = self._heap[0]
        self._advance(turn, turn.ahead_s + self._cost_s(turn))

    def take_along(self, offer: Callable[[Turn], bool]) -> None:
        """After it, those behind it in its line, out of turn, as long as `offer` takes them in."""
        turn = self._heap[0]
        while True:
            following = self._following(turn, self._cost_s(turn))
            if following is None or not offer(following):
                break
            turn = following
        self._advance(turn, turn.ahead_s + self._cost_s(turn))

    def rival(self) -> Turn | None:
        """Whose turn it would be, were it not for the line of the first; it may be late."""
        heap = self._heap
        line = heap[0].line
        others = [turn for turn in heap[1:3] if turn.line is not line]
        return min(others, default=None)

    def skip(self) -> None:
        """It has to wait until `restore`; those after it go on."""
        turn = self._heap[0]
        self._skipped.append(turn._replace(stop=turn.at + 1))
        self._advance(turn, turn.ahead_s)

    def skip_line(self) -> None:
        """It and those after it in its line have to wait until `restore`."""
        self._skipped.append(heappop(self._heap))

    def drop_line(self) -> None:
        """It and those after it in its line are not for now."""
        heappop(self._heap)

    def restore(self) -> None:
        """What was skipped is there again."""
        for turn in self._skipped:
            heappush(self._heap, turn)
        self._skipped.clear()

    def _advance(self, turn: Turn, ahead_s: float) -> None:
        following = self._following(turn, ahead_s - turn.ahead_s)
        if following is None:
            heappop(self._heap)
        else:
            heapreplace(self._heap, following)

    def _following(self, turn: Turn, cost_s: float) -> Turn | None:
        """The one behind it in its line, whose function has had so much more by then."""
        index = turn.at + 1
        if index == turn.stop:
            return None
        line, stop, job = turn.line, turn.stop, turn.line.jobs[index]
        ahead_s = turn.ahead_s + cost_s
        if not turn.is_late:
            return self._in_time(turn.place, job, line, index, stop, ahead_s)
        is_hopeless = turn.kind == _HOPELESS
        return self._late(turn.place, job, line, index, stop, ahead_s, is_hopeless=is_hopeless)

    def _cost_s(self, turn: Turn) -> float:
        return self._forecast.compute_s(turn.job.function, turn.job.rows)

    def _enter(self, line: Line, at: int, stop: int, place: int, target_s: float) -> None:
        """Part of a line, all of one priority."""
        job, ref = line.jobs[at], line.ref
        ahead_s = self._used_s.get(ref.name, 0.0) - self._least_s
        end_s = self._start_s + max(target_s, self._forecast.compute_s(ref, job.rows))
        if job.due_at_s < end_s:
            first = bisect_left(line.order, (-job.priority, end_s), at, stop)
            self.late.append(line)
            self._late_parts.append(Part(line, at, first, place))
            if ahead_s < self._owed_until_s:
                self._take_in_late()
            if first == stop:
                return
            at, job = first, line.jobs[first]
        self._heap.append(self._in_time(place, job, line, at, stop, ahead_s))

    def _take_in_late(self) -> None:
        """Jobs that are due before they could end, each line's in two: hopeless or not."""
        for line, at, stop, place in self._late_parts:
            end_s = self._start_s + self._forecast.compute_s(line.ref, line.jobs[at].rows)
            ahead_s = self._used_s.get(line.ref.name, 0.0) - self._least_s
            first = bisect_left(line.jobs, end_s, at, stop, key=_DEADLINE)
            if at < first:
                job = line.jobs[at]
                single = (_LAST, job, line, at, first, ahead_s)
                self._heap.append(self._late(*single, is_hopeless=True))
            if first < stop:
                job = line.jobs[first]
                single = (place, job, line, first, stop, ahead_s)
                self._heap.append(self._late(*single, is_hopeless=False))
        self._late_parts.clear()

    def _in_time(
        self, place: int, job: PendingJob, line: Line, index: int, stop: int, ahead_s: float
    ) -> Turn:
        due_at_s = job.due_at_s
        if due_at_s <= self._urgent_until_s and ahead_s <= BURST_S:
            kind, virtual_s = _URGENT, 0.0
        else:
            kind, virtual_s = _IN_TURN, ahead_s
        # as Turn makes it, without the call of its __new__: there is one for each function
        fields = (place, kind, virtual_s, due_at_s, job.id, job, line, index, stop, ahead_s, False)
        return tuple.__new__(Turn, fields)

    def _late(
        self,
        place: int,
        job: PendingJob,
        line: Line,
        index: int,
        stop: int,
        ahead_s: float,
        *,
        is_hopeless: bool,
    ) -> Turn:
        kind = _HOPELESS if is_hopeless else _LATE
        if kind == _LATE and ahead_s < self._owed_until_s:
            kind = _IN_TURN
        return Turn(
            place, kind, ahead_s, job.due_at_s, job.id, job, line, index, stop, ahead_s, True
        )


def in_order(
    pending: Pending, forecast: Forecast, start_s: float, now_s: float
) -> Iterator[PendingJob]:
    """All jobs as they should be taken."""
    turns = Turns(pending, forecast, start_s, now_s)
    while (turn := turns.first()) is not None:
        yield turn.job
        turns.take()
