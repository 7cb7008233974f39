"""What must hold for every policy."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.settings import read_settings
from tests.unit.scheduling.test_policy import (
    FUNCTIONS,
    JOBS,
    LIMITS,
    NOW_S,
    WORKERS,
    A,
    B,
    job,
    waiting,
    worker,
)
from workers.scheduling.costs import Costs
from workers.scheduling.policies import NAMES, policy_named
from workers.scheduling.records import Limits, PendingJob, WorkerView


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(JOBS, max_size=30, unique_by=lambda j: j.id),
    st.lists(WORKERS, max_size=3, unique_by=lambda w: w.id),
    st.integers(1, 4),
    st.integers(1, 8),
)
def test_any_plan_is_sound(
    name: str, jobs: list[PendingJob], workers: list[WorkerView], functions: int, most: int
) -> None:
    """No job twice, none invented, bounds kept, places never overdrawn, the queue untouched."""
    pending = waiting(jobs)
    decided = policy_named(name, Limits(functions, most)).plan(pending, workers, Costs(), NOW_S)
    given_away = [member for dispatch in decided.dispatches for member in dispatch.jobs]
    given_away += [refusal.job for refusal in decided.refused]
    assert len(set(given_away)) == len(given_away)
    assert set(given_away) <= set(jobs)
    assert set(jobs) == set(pending)
    for view in workers:
        assert sum(d.worker == view.id for d in decided.dispatches) <= view.free_places
    for dispatch in decided.dispatches:
        assert 1 <= len(dispatch.jobs) <= most
        members = {member.function for member in dispatch.jobs}
        assert len(members) <= functions
        for ref in members:
            rows = sum(member.rows for member in dispatch.jobs if member.function == ref)
            assert rows <= FUNCTIONS[ref].max_batch


@pytest.mark.parametrize("name", NAMES)
def test_nothing_waits_for_ever(name: str) -> None:
    """Asked again whenever it wants to be, a policy gives away or refuses every job."""
    policy = policy_named(name, LIMITS)
    pending, now_s = waiting([job(1, A), job(2, B), job(3, A, due_in_s=5)]), NOW_S
    for _ in range(20):
        decided = policy.plan(pending, [worker(places=2)], Costs(), now_s)
        gone = [member for dispatch in decided.dispatches for member in dispatch.jobs]
        for member in [*gone, *(refusal.job for refusal in decided.refused)]:
            pending.remove(member.id)
        if not pending:
            return
        now_s = max(now_s + 0.001, min(decided.wake_at_s, now_s + 1.0))
    pytest.fail(f"{len(pending)} jobs wait")


def test_every_policy_can_be_chosen() -> None:
    """And only those."""
    for name in NAMES:
        assert read_settings({"FUSEBOX_POLICY": name}).policy == name
