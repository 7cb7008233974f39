"""What the active scheduler holds in memory."""

from __future__ import annotations

import pytest

from contract.store.workers import DagCacheReport, WorkerReport
from workers.scheduling.costs import Costs
from workers.scheduling.state import Cursor, State, UnderWay


def a_report(worker: str, groups: list[str]) -> WorkerReport:
    """A heartbeat of a worker that has begun these groups."""
    fixed = ("cpu", "CPU", 1, 2, 10**9, 0, 0, 0, {}, [], DagCacheReport(), 0, 0, False, 0.0, 0.0)
    return WorkerReport(worker, *fixed, groups=groups)  # type: ignore[arg-type]  # in field order


@pytest.mark.parametrize(
    ("begun", "now_s", "lost"),
    [
        ([], 9.0, []),
        ([], 11.0, ["g"]),
        (["g"], 11.0, []),
        (["another"], 11.0, ["g"]),
    ],
    ids=["lease lasts", "never begun", "begun and slow", "begun another"],
)
def test_a_group_is_lost_when_its_lease_is_over_and_its_worker_has_not_begun_it(
    begun: list[str], now_s: float, lost: list[str]
) -> None:
    """A worker that has begun it is slow, not without it: its place is taken."""
    state = State(Cursor(), {"g": UnderWay("w", 1.0, lease_end_s=10.0)}, Costs())
    state.set_workers([a_report("w", begun)])
    assert state.lost_groups(now_s) == lost


def test_a_group_of_a_worker_that_does_not_report_is_left_to_its_reaping() -> None:
    """The worker may be about to report again."""
    state = State(Cursor(), {"g": UnderWay("gone", 1.0, lease_end_s=10.0)}, Costs())
    assert state.lost_groups(11.0) == []
