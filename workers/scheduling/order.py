"""In which order jobs are taken: by due time within a function, by fair shares between functions.

A function's jobs start, in virtual time, where what it has had of the device ends. What is about to
be late goes before that order, as long as its function is not far ahead of its share: a function
that is always late gets no more than the others. What has no laxity left, due before it could end,
goes behind what has, unless its function is owed much; what would miss its deadline goes last.

Higher priorities go first, whatever is due, for a while (`priorities.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappop, heappush, heapreplace, merge
from math import inf
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.job import JobId
from workers.scheduling.forecast import Forecast
from workers.scheduling.lines import Line
from workers.scheduling.pending import Pending
from workers.scheduling.priorities import NEVER, by_age
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
# Lines that are made ready to come in together.
AT_ONCE = 32

Bools = NDArray[np.bool_]


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


class _Entry(NamedTuple):
    """The late jobs of a line, or the others, that have not come in."""

    # place, kind, virtual start and due time of a `Turn` that none of them precedes
    bound: tuple[int, int, float, float]
    row: int
    is_late: bool


class Turns:
    """The jobs that wait, in the order in which they should be taken; the queue stays as it is.

    `start_s`: when a device is free; `served_s`: when a job of each priority was served last;
    `target_s`: how long groups are where many wait. Under
    overload what could not bear such a group is given up for what can, or every group would be a
    single job that is nearly late (early drop of Nexus; Shen et al., SOSP 2019).
    Lines come in when it may be the turn of one of their jobs: a decision looks at few of them.
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
        self._functions, self._forecast = pending.functions, forecast
        self._start_s = start_s
        self._urgent_until_s = start_s + URGENT_WITHIN_S
        self._heap: list[Turn] = []
        self._skipped: list[Turn] = []
        if pending.due_before(start_s) * OVERLOADED < len(pending):
            target_s = 0.0
        self._look = look = pending.heads.look(forecast, start_s, target_s)
        # no function's first job takes less
        self.least_s = look.least_s
        self._owed_until_s = look.most_ahead_s - OWED_S
        self._entries = self._parts(by_age(pending, now_s, served_s))
        self._next_entry = next(self._entries, None)

    def first(self) -> Turn | None:
        """Whose turn it is now."""
        heap = self._heap
        while True:
            while self._next_entry is not None and (
                not heap or self._next_entry.bound <= heap[0][:4]
            ):
                self._enter(self._next_entry)
                self._next_entry = next(self._entries, None)
            if not heap:
                return None
            turn = heap[0]
            job = turn.job
            end_s = self._start_s + self._forecast.compute_s(job.function, job.rows)
            if end_s <= turn.until_s or turn.kind == _HOPELESS:
                return turn
            # it has more rows than those before it in its line, or less time
            self.take()
            is_hopeless = turn.is_late or end_s > job.deadline_s
            single = (job, turn.line, turn.at, turn.at + 1, turn.ahead_s)
            place = _LAST if is_hopeless else turn.place
            heappush(heap, self._late(place, *single, is_hopeless=is_hopeless))

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
        first = heappop(self._heap)
        other = self.first()
        heappush(self._heap, first)
        return other if other is not None and other.line is not first.line else None

    def skip(self) -> None:
        """It has to wait until `restore`; those after it go on."""
        turn = self._heap[0]
        # as `_replace(stop=turn.at + 1)`, in a third of the time
        self._skipped.append(tuple.__new__(Turn, (*turn[:8], turn.at + 1, *turn[9:])))
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

    def _parts(self, priorities: Sequence[int]) -> Iterator[_Entry]:
        """Parts of lines, the first to have its turn first."""
        look, its = self._look, self._sorted
        for place, priority in enumerate(priorities):
            # each kind is looked for when those before it have come in
            own = look.priority == priority if len(priorities) > 1 else True
            is_urgent = (look.due_s <= self._urgent_until_s) & (look.ahead_s <= BURST_S) & own
            yield from its(place, _URGENT, is_urgent, is_late=False)
            in_turn = its(place, _IN_TURN, (look.due_s < inf) & ~is_urgent & own, is_late=False)
            is_late = (look.late_due_s > -inf) & own
            if self._owed_until_s > 0:
                is_owed = look.ahead_s < self._owed_until_s
                owed = its(place, _IN_TURN, is_late & is_owed, is_late=True)
                in_turn, is_late = merge(in_turn, owed), is_late & ~is_owed
            yield from in_turn
            yield from its(place, _LATE, is_late, is_late=True)

    def _sorted(self, place: int, kind: int, which: Bools, *, is_late: bool) -> Iterator[_Entry]:
        """The late jobs, or the others, of these lines; all of one kind."""
        [rows] = which.nonzero()
        if not len(rows):
            return
        due_s = (self._look.head_due_s if is_late else self._look.due_s)[rows]
        virtual_s = np.zeros(len(rows)) if kind == _URGENT else self._look.ahead_s[rows]
        order = due_s.argsort() if kind == _URGENT else np.lexsort((due_s, virtual_s))
        for first in range(0, len(order), AT_ONCE):
            some = order[first : first + AT_ONCE]
            columns = virtual_s[some].tolist(), due_s[some].tolist(), rows[some].tolist()
            for its_virtual_s, its_due_s, row in zip(*columns, strict=True):
                yield _Entry((place, kind, its_virtual_s, its_due_s), row, is_late)

    def _enter(self, entry: _Entry) -> None:
        """A part of a line comes in."""
        line, ahead_s = self._look.lines[entry.row], float(self._look.ahead_s[entry.row])
        if line.ref not in self._functions:
            return
        place, late = entry.bound[0], line.late
        if not entry.is_late:
            job, stop = line.jobs[late], len(line.jobs)
            heappush(self._heap, self._in_time(place, job, line, late, stop, ahead_s))
            return
        # those that are due before they could end, in two: hopeless or not
        end_s = self._start_s + self._forecast.compute_s(line.ref, line.jobs[0].rows)
        first = bisect_left(line.jobs, end_s, 0, late, key=_DEADLINE)
        if first:
            single = (_LAST, line.jobs[0], line, 0, first, ahead_s)
            heappush(self._heap, self._late(*single, is_hopeless=True))
        if first < late:
            single = (place, line.jobs[first], line, first, late, ahead_s)
            heappush(self._heap, self._late(*single, is_hopeless=False))

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
