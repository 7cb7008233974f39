"""The last second of groups on each device, as places on a line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from contract.store.queue import GroupReport

SECONDS = 1.0
# units of a line's length
WIDTH = 1000.0


class Bar(NamedTuple):
    """A group's time on the device; x and width of WIDTH, and what it was, in words."""

    x: float
    width: float
    title: str


class Timeline(NamedTuple):
    """One worker's last second, the oldest group first."""

    worker: str
    bars: Sequence[Bar]
    # of the second
    busy_share: float


def timelines(groups: Sequence[GroupReport]) -> list[Timeline]:
    """By worker, of the second before the last group of any ended; the newest group first in."""
    computed = [group for group in groups if group.ended_at_s]
    until_s = max((group.ended_at_s for group in computed), default=0.0)
    by_worker: dict[str, list[Bar]] = {}
    for group in reversed(computed):
        first_s = max(group.began_at_s, until_s - SECONDS)
        if group.ended_at_s > first_s:
            x = (first_s - until_s + SECONDS) / SECONDS * WIDTH
            width = (group.ended_at_s - first_s) / SECONDS * WIDTH
            by_worker.setdefault(group.worker, []).append(Bar(x, width, _title(group)))
    return [
        Timeline(worker, bars, min(1.0, sum(bar.width for bar in bars) / WIDTH))
        for worker, bars in sorted(by_worker.items())
    ]


def _title(group: GroupReport) -> str:
    members = ", ".join(f"{name}@{version} x{rows}" for name, version, rows in group.members)
    return (
        f"{members or 'nothing computed'}; {', '.join(group.strategies)}; "
        f"predicted {1000 * group.predicted_s:.3g} ms, measured {1000 * group.measured_s:.3g} ms"
    )
