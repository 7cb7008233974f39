"""What the active scheduler holds in memory."""

from __future__ import annotations

import pytest

from contract.store.workers import DagCacheReport, WorkerReport
from workers.scheduling.costs import Costs
from workers.scheduling.state import Cursor, State, UnderWay


def a_report(worker: str, groups: list[str], at_s: float) -> WorkerReport:
    """A heartbeat of a worker that has begun these groups."""
    cache = DagCacheReport()
    return WorkerReport(
        worker, "cpu", "CPU", 1, 2, 10**9, 0, 0, 0, {}, [], cache, 0, 0, False, 0.0, at_s,
        groups=groups,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("begun", "at_s", "lost"),
    [
        ([], 9.0, []),
        ([], 11.0, ["g"]),
        (["g"], 11.0, []),
        (["another"], 11.0, ["g"]),
    ],
    ids=["not reported since", "never begun", "begun and slow", "begun another"],
)
def test_a_group_is_lost_when_its_worker_reports_without_it_after_the_lease(
    begun: list[str], at_s: float, lost: list[str]
) -> None:
    """A worker that has begun it is slow, one that does not report may be dead."""
    state = State(Cursor(), {"g": UnderWay("w", 1.0, lease_end_s=10.0)}, Costs())
    state.set_workers([a_report("w", begun, at_s)])
    assert state.lost_groups() == lost


def test_a_group_of_a_worker_that_is_gone_is_left_to_its_reaping() -> None:
    """The jobs of such a worker are queued again with its groups, all at once."""
    state = State(Cursor(), {"g": UnderWay("gone", 1.0, lease_end_s=10.0)}, Costs())
    assert state.lost_groups() == []
