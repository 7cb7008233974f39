"""The groups that were sent of late: what went before a job that waited. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contract.trail import MOST_NAMED, Planned
from workers.scheduling.records import Dispatch

# groups looked back over; a job that waited for longer had at least so many before it
KEPT = 128


class _Group(NamedTuple):
    at_s: float
    # by function
    jobs: Mapping[str, int]
    total: int


class Sent:
    """Remembers whose jobs went to workers, and when."""

    def __init__(self, kept: int = KEPT) -> None:
        self._groups: deque[_Group] = deque(maxlen=kept)
        # of the newest group that was given up for another; -inf while all are kept
        self._lost_at_s = float("-inf")

    def note(self, dispatch: Dispatch, now_s: float) -> None:
        """A group is sent, after its jobs were explained."""
        if len(self._groups) == self._groups.maxlen:
            self._lost_at_s = self._groups[0].at_s
        jobs = Counter(job.function.name for job in dispatch.jobs)
        self._groups.append(_Group(now_s, jobs, len(dispatch.jobs)))

    def explain(self, dispatch: Dispatch, now_s: float) -> list[Planned]:
        """Per job of a group what went before it while it waited."""
        newest_first = sorted(
            range(len(dispatch.jobs)), key=lambda k: -dispatch.jobs[k].accepted_at_s
        )
        earlier = reversed(self._groups)
        group = next(earlier, None)
        before = _Before()
        note = Planned(now_s, dispatch.predicted_s, 0)
        notes = [note] * len(dispatch.jobs)
        for k in newest_first:
            since_s = dispatch.jobs[k].accepted_at_s
            while group is not None and group.at_s > since_s:
                before.add(group)
                group = next(earlier, None)
            if before.total != note.before:
                note = Planned(now_s, dispatch.predicted_s, before.total, before.most())
            notes[k] = note._replace(is_at_least=True) if since_s < self._lost_at_s else note
        return notes


class _Before:
    """Jobs by function, and the functions with most; plain sums, for a dispatch waits for it."""

    __slots__ = ("_counts", "_most", "_touched", "total")

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[str, int] = {}
        # when it was last asked; counts only grow, so of the others none has more unless touched
        self._most: list[str] = []
        self._touched: dict[str, int] = {}

    def add(self, group: _Group) -> None:
        """Those of a group."""
        counts = self._counts
        for name, count in group.jobs.items():
            counts[name] = counts.get(name, 0) + count
        self.total += group.total
        self._touched.update(group.jobs)

    def most(self) -> Sequence[tuple[str, int]]:
        """Up to MOST_NAMED of them, the most jobs first."""
        counts, most = self._counts, self._most
        least = min(counts[name] for name in most) if len(most) == MOST_NAMED else 0
        risen = [name for name in self._touched if counts[name] > least and name not in most]
        self._touched.clear()
        ranked = sorted([*most, *risen], key=counts.__getitem__, reverse=True)
        self._most = ranked[:MOST_NAMED]
        return [(name, counts[name]) for name in self._most]
