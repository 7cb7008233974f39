"""Costs are learned from what workers measured."""

from __future__ import annotations

import pytest

from contract.function import FunctionRef
from contract.store.queue import GroupReport
from workers.scheduling.costs import PRIOR_COMPUTE_S, Costs

F = FunctionRef("f", 1)


def report(rows: int, compute_s: float, swap_s: float = 0.0, swap_bytes: int = 0) -> GroupReport:
    """A group of one member."""
    return GroupReport("g", "w", [("f", 1, rows)], compute_s, swap_s, 0.0, swap_bytes)


def test_a_function_never_run_costs_the_prior() -> None:
    """Something has to be assumed of a new function."""
    assert Costs().compute_s(F, 4) == PRIOR_COMPUTE_S


def test_time_grows_with_rows_as_measured() -> None:
    """A line through what was seen: 1 ms and 2 ms per row."""
    costs = Costs()
    for _ in range(30):
        for rows in (1, 2, 4, 8):
            costs.learn(report(rows, 0.001 + 0.002 * rows))
    assert costs.compute_s(F, 6) == pytest.approx(0.013, rel=1e-6)
    assert costs.compute_s(F, 16) == pytest.approx(0.033, rel=1e-6)


def test_what_changes_is_learned_again() -> None:
    """Old measurements lose their weight."""
    costs = Costs()
    for _ in range(10):
        costs.learn(report(1, 1.0))
    for _ in range(40):
        costs.learn(report(1, 0.1))
    assert costs.compute_s(F, 1) == pytest.approx(0.1, rel=0.01)


def test_a_prediction_is_never_negative() -> None:
    """Even where noise makes more rows look cheaper."""
    costs = Costs()
    for rows, seconds in ((1, 1.0), (8, 0.1), (1, 1.0), (8, 0.1)):
        costs.learn(report(rows, seconds))
    assert costs.compute_s(F, 100) >= 0


def test_swap_time_follows_the_measured_bandwidth() -> None:
    """Bytes over seconds, smoothed."""
    costs = Costs()
    for _ in range(50):
        costs.learn(report(1, 0.01, swap_s=0.5, swap_bytes=10**9))
    assert costs.swap_s(10**9) == pytest.approx(0.5, rel=0.01)
