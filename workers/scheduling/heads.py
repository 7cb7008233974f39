"""What a decision looks at of every line, in columns: one pass of numpy, not of Python.

Kept with the queue: a line is looked at anew when its jobs, its function's share or its predicted
time have changed, or when jobs of it have become late since. Whatever else waits costs a decision
nanoseconds for each line.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.function import FunctionRef
from workers.scheduling.forecast import Forecast
from workers.scheduling.lines import Line
from workers.scheduling.shares import Shares

Floats = NDArray[np.float64]
_FIELDS = range(8)
_USED_S, _COST_S, _HEAD_DUE_S, _DEADLINE_S, _LATE_DUE_S, _DUE_S, _PRIORITY, _WORK_S = _FIELDS
# rows beyond these run in batches as large
_FEW_ROWS, _MOST_ROWS = 8, 64
_LEAST_ROWS = 64


class Look(NamedTuple):
    """The lines at one moment, by row; valid until the queue changes."""

    lines: list[Line]
    priority: Floats
    # device time of its function before that of the one that has had least
    ahead_s: Floats
    # by how much the one that has had most is ahead
    most_ahead_s: float
    # predicted time of the shortest first job
    least_s: float
    # when its first job is due
    head_due_s: Floats
    # when the last of its late jobs is due; minus infinity where none is late
    late_due_s: Floats
    # when the first of the others is; infinite where all are late
    due_s: Floats


class Heads:
    """The first jobs of all lines that wait."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._lines: list[Line] = []
        self._of: dict[str, list[Line]] = {}
        self._columns: Floats = np.empty((len(_FIELDS), _LEAST_ROWS))
        self._changed: set[Line] = set()
        # which predictions the columns are of
        self._costs: object = None
        self._revision = 0

    def add(self, line: Line) -> None:
        """A line begins."""
        line.row = len(self._lines)
        if line.row == self._columns.shape[1]:
            self._columns = np.concatenate((self._columns, np.empty_like(self._columns)), axis=1)
        self._lines.append(line)
        self._of.setdefault(line.ref.name, []).append(line)
        self._changed.add(line)

    def remove(self, line: Line) -> None:
        """A line has ended; the last one takes its row."""
        last = self._lines.pop()
        if last is not line:
            last.row = line.row
            self._lines[last.row] = last
            self._columns[:, last.row] = self._columns[:, len(self._lines)]
        its = self._of[line.ref.name]
        its.remove(line)
        if not its:
            del self._of[line.ref.name]
        self._changed.discard(line)

    def touch(self, line: Line) -> None:
        """Jobs have come to it, or left it."""
        self._changed.add(line)

    def set_gap_rows(self, line: Line, rows: int) -> None:
        """So many of its rows wait for a gap."""
        line.gap_rows = rows
        if line not in self._changed:
            self._columns[_WORK_S, line.row] = _work_s(line)

    def look(self, forecast: Forecast, start_s: float, target_s: float) -> Look:
        """What is late where a device is free at `start_s` for groups of `target_s` at least."""
        self._refresh(forecast)
        count = len(self._lines)
        columns = self._columns[:, :count]
        end_s = start_s + np.maximum(columns[_COST_S], target_s)
        [moved] = ((columns[_LATE_DUE_S] >= end_s) | (columns[_DUE_S] < end_s)).nonzero()
        for row in moved.tolist():
            self._cut(self._lines[row], float(end_s[row]))
        used_s = columns[_USED_S]
        least_s = used_s.min() if count else 0.0
        return Look(
            self._lines,
            columns[_PRIORITY],
            used_s - least_s,
            float(used_s.max() - least_s) if count else 0.0,
            float(columns[_COST_S].min()) if count else 0.0,
            columns[_HEAD_DUE_S],
            columns[_LATE_DUE_S],
            columns[_DUE_S],
        )

    def missing(self, forecast: Forecast, start_s: float) -> list[Line]:
        """Lines whose first job would miss its deadline though it were the next to run."""
        self._refresh(forecast)
        columns = self._columns[:, : len(self._lines)]
        [rows] = (columns[_DEADLINE_S] < start_s + columns[_COST_S]).nonzero()
        return [self._lines[row] for row in rows.tolist()]

    def work_s(self, forecast: Forecast) -> Floats:
        """What the jobs of each line take in batches, by row, but for those that wait for a gap."""
        self._refresh(forecast)
        return self._columns[_WORK_S, : len(self._lines)]

    def late(self, forecast: Forecast, start_s: float) -> list[Line]:
        """Lines whose first job would be late though it were the next to run."""
        self._refresh(forecast)
        columns = self._columns[:, : len(self._lines)]
        [rows] = (columns[_HEAD_DUE_S] < start_s + columns[_COST_S]).nonzero()
        return [self._lines[row] for row in rows.tolist()]

    def check_integrity(self, lines: Iterable[Line]) -> None:
        """Raise AssertionError unless these lines are in it, each in its row."""
        assert {*self._lines} == {*lines}
        assert [line.row for line in self._lines] == [*range(len(self._lines))]
        assert {*self._lines} == {line for its in self._of.values() for line in its}
        assert self._changed <= {*self._lines}

    def _refresh(self, forecast: Forecast) -> None:
        revised = forecast.revised(self._revision) if forecast.costs is self._costs else None
        self._costs, self._revision = forecast.costs, forecast.revision
        if revised is None:
            self._changed.update(self._lines)
        else:
            for ref in revised:
                self._touch_all(ref.name)
        for name in self._shares.charged:
            self._touch_all(name)
        self._shares.charged.clear()
        for line in self._changed:
            self._read(line, forecast)
        self._changed.clear()

    def _touch_all(self, name: str) -> None:
        self._changed.update(self._of.get(name, ()))

    def _read(self, line: Line, forecast: Forecast) -> None:
        job = line.jobs[0]
        line.work_s = batched_s(line.ref, line.rows, forecast)
        self._columns[:, line.row] = (
            self._shares.used_s.get(line.ref.name, 0.0),
            forecast.compute_s(line.ref, job.rows),
            job.due_at_s,
            job.deadline_s,
            # no time is between these: it is cut by the next look
            inf,
            -inf,
            line.priority,
            _work_s(line),
        )

    def _cut(self, line: Line, end_s: float) -> None:
        """Into what is due before then and what is not."""
        order, late = line.order, line.due_before(end_s)
        line.late = late
        self._columns[_LATE_DUE_S, line.row] = order[late - 1][1] if late else -inf
        self._columns[_DUE_S, line.row] = order[late][1] if late < len(order) else inf


def _work_s(line: Line) -> float:
    """What does not wait for a gap."""
    return line.work_s * max(0.0, 1 - line.gap_rows / line.rows)


def batched_s(ref: FunctionRef, rows: int, forecast: Forecast) -> float:
    """Predicted time of so many rows of one function, run together.

    Of many, on the line between two powers of two: what a line has changes by every job.
    """
    if rows <= _FEW_ROWS:
        return forecast.compute_s(ref, rows)
    if rows >= _MOST_ROWS:
        return forecast.compute_s(ref, _MOST_ROWS) * rows / _MOST_ROWS
    low = 1 << (rows.bit_length() - 1)
    low_s, high_s = forecast.compute_s(ref, low), forecast.compute_s(ref, 2 * low)
    return low_s + (high_s - low_s) * (rows - low) / low
