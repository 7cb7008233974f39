"""Lines cut by priority, and which priority goes first. Pure.

Higher priorities go first, whatever is due, until a lower one has waited `OVERTAKEN_S` for each
step between them, since its oldest job came or since it was served last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from workers.scheduling.pending import Line, Pending

# For how long a step of priority lets others overtake.
OVERTAKEN_S = 1.0
NEVER: Mapping[int, float] = MappingProxyType({})


class Part(NamedTuple):
    """Jobs `at` to `stop` of a line, all of one priority, of this place."""

    line: Line
    at: int
    stop: int
    place: int


def parts_of(
    pending: Pending, now_s: float, served_s: Mapping[int, float]
) -> Iterable[tuple[Line, int, int, int]]:
    """Every line, cut by priority; `served_s`: when a job of each priority was served last."""
    if pending.priorities() <= 1:
        return ((line, 0, len(line.jobs), 0) for line in pending.lines())
    cuts = [
        (place, line, *line.span(priority))
        for place, priority in enumerate(_by_age(pending, now_s, served_s))
        for line in pending.lines()
    ]
    return [(line, at, stop, place) for place, line, at, stop in cuts if at < stop]


def _by_age(pending: Pending, now_s: float, served_s: Mapping[int, float]) -> list[int]:
    """The priorities that wait, each raised by how long it has."""

    def rank(priority: int) -> tuple[float, int]:
        since_s = max(oldest[priority].accepted_at_s, served_s.get(priority, 0.0))
        return -priority - (now_s - since_s) / OVERTAKEN_S, -priority

    oldest = pending.oldest()
    return sorted(oldest, key=rank)
