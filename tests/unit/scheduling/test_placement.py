"""The worker that ends a group first, whatever the others are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.function import FunctionRef
from contract.store.queue import GroupReport
from tests.unit.scheduling.test_policy import FUNCTIONS as SMALL
from tests.unit.scheduling.test_policy import A, B, job, worker
from workers.scheduling.costs import Costs
from workers.scheduling.placement import Measured, first_to_end, relative_speeds
from workers.scheduling.records import WorkerView

FUNCTIONS = {A: replace(SMALL[A], weight_bytes=10**8), B: SMALL[B]}


def costs_of(seconds: float, ref: FunctionRef = A) -> Costs:
    """A model that has seen one row of a function take so long."""
    costs = Costs()
    costs.learn(GroupReport("g", "w", [(ref.name, ref.version, 1)], seconds, 0.0, 0.0))
    return costs


def end_in_s(view: WorkerView, costs: Costs) -> float:
    """When a job of one row of A would have ended there, from now."""
    weight_bytes = FUNCTIONS[A].weight_bytes
    is_read = A not in view.resident or weight_bytes > view.budget_bytes
    swap_s = costs.swap_s(weight_bytes) if is_read else 0.0
    return view.free_in_s + swap_s + costs.compute_s(A, 1) / view.speed


views = st.builds(
    WorkerView,
    st.uuids().map(str),
    st.integers(1, 4),
    st.sampled_from([10**6, 10**9]),
    st.sampled_from([frozenset[FunctionRef](), frozenset([A]), frozenset([A, B])]),
    st.one_of(st.none(), st.floats(0, 1)),
    speed=st.floats(0.1, 10),
)
fleets = st.lists(views, min_size=1, max_size=8)


@given(fleets, st.floats(0.001, 1))
def test_no_other_worker_would_end_the_job_earlier(fleet: list[WorkerView], seconds: float) -> None:
    """What is under way, weights that come in, and arithmetic at the worker's own speed."""
    costs = costs_of(seconds)
    chosen = first_to_end(job(1, A), fleet, FUNCTIONS, costs)
    ends = {view.id: end_in_s(view, costs) for view in fleet}
    assert ends[chosen.id] == min(ends.values())


@given(fleets, st.floats(0.001, 1), st.floats(1.01, 5))
def test_a_worker_that_gets_better_is_still_chosen(
    fleet: list[WorkerView], seconds: float, factor: float
) -> None:
    """Faster, idle or with the weights: never a reason against it."""
    costs = costs_of(seconds)
    chosen = first_to_end(job(1, A), fleet, FUNCTIONS, costs)
    others = [view for view in fleet if view is not chosen]
    for better in (
        replace(chosen, speed=chosen.speed * factor),
        replace(chosen, under_way_s=None),
        replace(chosen, resident=chosen.resident | {A}),
    ):
        assert first_to_end(job(1, A), [better, *others], FUNCTIONS, costs) is better


def test_equals_are_told_apart_by_weights_and_places() -> None:
    """Of workers that end it at once, one that has the weights, then one with most places."""
    costs = Costs()
    few, many = replace(worker("few"), free_places=1), replace(worker("many"), free_places=2)
    assert first_to_end(job(1, B), [few, many], SMALL, costs) is many
    has = replace(few, resident=frozenset({B}))
    assert first_to_end(job(1, B), [many, has], SMALL, costs) is has


def test_weights_that_come_in_are_weighed_against_work_under_way() -> None:
    """0.1 s of swapping: worth waiting less for, not more."""
    costs = costs_of(0.01)
    cold = worker("cold")
    busy = replace(worker("busy"), resident=frozenset({A}))
    soon, late = replace(busy, under_way_s=0.05), replace(busy, under_way_s=0.2)
    assert first_to_end(job(1, A), [cold, soon], FUNCTIONS, costs) is soon
    assert first_to_end(job(1, A), [cold, late], FUNCTIONS, costs) is cold


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.builds(Measured, st.floats(1e9, 1e14), st.floats(1e9, 1e12))
    )
)
def test_speeds_are_relative_to_the_mean(measured: dict[str, Measured]) -> None:
    """More power is never less speed; twice the fleet's power changes nothing."""
    speeds = relative_speeds(measured)
    assert speeds.keys() == measured.keys()
    for one in measured:
        for two in measured:
            if measured[one].power >= measured[two].power and 1.0 not in (speeds[one], speeds[two]):
                assert speeds[one] >= speeds[two]
    doubled = {w: Measured(2 * its.flops, its.memory_bytes_per_s) for w, its in measured.items()}
    assert relative_speeds(doubled) == pytest.approx(speeds)


def test_who_measured_nothing_counts_as_the_mean() -> None:
    """As do those that differ as measurements of one machine do."""
    fast, slow = Measured(4e10, 1e10), Measured(1e10, 1e10)
    assert relative_speeds({"a": fast, "b": slow, "c": Measured(0, 0)}) == pytest.approx(
        {"a": 2**0.5, "b": 0.5**0.5, "c": 1.0}
    )
    assert relative_speeds({"a": fast, "b": Measured(4.2e10, 1e10)}) == {"a": 1.0, "b": 1.0}
    assert relative_speeds({"a": Measured(0, 0)}) == {"a": 1.0}
    assert relative_speeds({}) == {}
