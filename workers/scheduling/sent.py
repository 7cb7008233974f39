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
    jobs: Mapping[str, int]


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
        self._groups.append(_Group(now_s, Counter(job.function.name for job in dispatch.jobs)))

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
                before.add(group.jobs)
                group = next(earlier, None)
            if before.total != note.before:
                note = note._replace(before=before.total, before_of=before.most())
            notes[k] = note._replace(is_at_least=True) if since_s < self._lost_at_s else note
        return notes


class _Before:
    """Jobs by function, and the functions with most; plain sums, for a dispatch waits for it."""

    __slots__ = ("_counts", "_least", "_most", "total")

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[str, int] = {}
        # the functions with most jobs; counts only grow, so no other can come to be one unseen
        self._most: dict[str, int] = {}
        self._least = 0

    def add(self, jobs: Mapping[str, int]) -> None:
        """Those of a group."""
        counts = self._counts
        for name, count in jobs.items():
            self.total += count
            count += counts.get(name, 0)
            counts[name] = count
            if count > self._least:
                self._rank(name, count)

    def most(self) -> Sequence[tuple[str, int]]:
        """Up to MOST_NAMED of them, the most jobs first."""
        return sorted(self._most.items(), key=_count, reverse=True)

    def _rank(self, name: str, count: int) -> None:
        most = self._most
        if name not in most and len(most) == MOST_NAMED:
            del most[min(most, key=most.__getitem__)]
        most[name] = count
        if len(most) == MOST_NAMED:
            self._least = min(most.values())


def _count(item: tuple[str, int]) -> int:
    return item[1]
