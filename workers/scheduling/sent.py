"""The groups that were sent of late: what went before a job that waited. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from heapq import nlargest
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
        before: dict[str, int] = {}
        note = Planned(now_s, dispatch.predicted_s, 0)
        notes = [note] * len(dispatch.jobs)
        for k in newest_first:
            since_s, total = dispatch.jobs[k].accepted_at_s, note.before
            # plain sums: a decision waits for this, and Counter.update takes three times as long
            while group is not None and group.at_s > since_s:
                for name, count in group.jobs.items():
                    before[name] = before.get(name, 0) + count
                    total += count
                group = next(earlier, None)
            if total != note.before:
                note = note._replace(before=total, before_of=_most(before))
            notes[k] = note._replace(is_at_least=True) if since_s < self._lost_at_s else note
        return notes


def _most(before: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    return nlargest(MOST_NAMED, before.items(), key=lambda item: item[1])
