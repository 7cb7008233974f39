"""What a scheduler has learned outlives it."""

from __future__ import annotations

import pytest

from contract.function import FunctionRef
from contract.store import Store
from contract.store.queue import GroupReport
from contract.store.telemetry import COMPUTE, PredictionError
from tests.integration.scheduling.test_loop import join, scheduling, settle, taken
from tests.integration.store.builders import deploy, submit
from workers.scheduling.costs import Costs
from workers.scheduling.learning import load_costs, save_costs
from workers.scheduling.loop import LEADER_LEASE_S, ROLE

ECHO = FunctionRef("echo", 1)


def lead(store: Store, token: str = "t") -> None:
    """Be the active scheduler."""
    assert store.workers.lead(ROLE, token, LEADER_LEASE_S)


def learned(*refs: FunctionRef) -> Costs:
    """A model that has seen these functions run, alone and together."""
    costs = Costs()
    for rows in (1, 2, 5):
        for ref in refs:
            costs.learn(
                GroupReport("g", "w", [(ref.name, ref.version, rows)], 0.01 * rows, 0.1, 0, 10**6)
            )
        costs.learn(
            GroupReport(
                "g", "w", [(ref.name, ref.version, rows) for ref in refs], 0.015 * rows, 0, 0
            )
        )
    return costs


def test_a_scheduler_that_takes_over_predicts_as_the_last_one(store: Store) -> None:
    """Alone, in groups, and of swaps, to the last bit."""
    deploy(store)
    deploy(store, name="other")
    other = FunctionRef("other", 1)
    costs = learned(ECHO, other)
    lead(store)
    save_costs(store, "t", costs)
    again = load_costs(store)
    for rows in (1, 3, 7, 64):
        group = {ECHO: rows, other: 2}
        assert again.group_s(group) == costs.group_s(group)
        assert again.compute_s(ECHO, rows, 0.95) == costs.compute_s(ECHO, rows, 0.95)
    assert again.swap_s(10**7, "w") == costs.swap_s(10**7, "w")
    assert store.telemetry.prediction_error()[COMPUTE] == costs.errors().compute


def test_versions_removed_meanwhile_are_not_taken_over(store: Store) -> None:
    """The next write drops them from the store."""
    deploy(store)
    gone = FunctionRef("gone", 3)
    lead(store)
    save_costs(store, "t", learned(ECHO, gone))
    costs = load_costs(store)
    assert costs.refs() == [ECHO]
    save_costs(store, "t", costs)
    assert not [field for field in store.costs.load() if "gone" in field]


def test_only_the_active_scheduler_writes(store: Store) -> None:
    """One that has lost its lead does not write over what the other learns."""
    lead(store, "another")
    save_costs(store, "t", learned(ECHO))
    assert store.costs.load() == {}
    assert store.telemetry.prediction_error() == {}


def test_errors_replace_those_before(store: Store) -> None:
    """Functions that are gone do not stay."""
    one, two = PredictionError(0.1, 0.2, 3), PredictionError(0.5, 1.5, 7)
    store.telemetry.set_prediction_error({COMPUTE: one, "f@1": two})
    assert store.telemetry.prediction_error() == {COMPUTE: one, "f@1": two}
    store.telemetry.set_prediction_error({COMPUTE: two})
    assert store.telemetry.prediction_error() == {COMPUTE: two}


def test_a_scheduler_keeps_what_groups_took(store: Store) -> None:
    """One ends after a group; what it has learned is in the store, its error too."""
    function = deploy(store)
    join(store)
    with scheduling(store):
        submit(store, function)
        assert settle(store, taken(store)) == [True]
        # its group is heard of when the next one is sent
        submit(store, function)
        taken(store)
    assert Costs.of(store.costs.load()).compute_s(ECHO, 1) == pytest.approx(0.001)
    error = store.telemetry.prediction_error()[COMPUTE]
    assert (error.median, error.groups) == (pytest.approx(4.0), 1)
