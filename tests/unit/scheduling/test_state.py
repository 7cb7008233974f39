"""What the scheduler learns from signals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contract.function import FunctionRef
from contract.store.queue import Cursor, Event, GroupReport
from contract.store.workers import DagCacheReport, WorkerReport
from workers.scheduling.costs import Costs
from workers.scheduling.records import FunctionView
from workers.scheduling.state import State
from workers.scheduling.under_way import UnderWay


def a_worker(name: str) -> WorkerReport:
    """A report of a worker with two places."""
    cache = DagCacheReport(0, 0, 0, 0, 0)
    return WorkerReport(
        id=name, device="cpu", device_name="", pid=1, places=2, budget_bytes=1, resident_bytes=0,
        process_bytes=0, baseline_bytes=0, functions={}, hosted=[], dag_cache=cache, loads=0,
        evictions=0, is_draining=False, started_at_s=0.0, heartbeat_at_s=0.0, strategies={},
    )  # fmt: skip


def report(*behind: tuple[str, int]) -> Event:
    """The end of group `g`, but for these functions."""
    return Event("group", GroupReport("g", "w", [], 0, 0, 0, 0, behind).encode())


def test_functions_that_are_behind_take_no_place_until_the_last_one_is_through() -> None:
    """The group is reported once for the quick and once for each of the slow."""
    state = State(Cursor(), {"g": UnderWay("w", 1.0, 10.0)}, Costs())
    state.set_workers([a_worker("w"), a_worker("other")])

    def seen() -> list[tuple[int, set[FunctionRef]]]:
        return [(view.free_places, set(view.behind)) for view in state.views()]

    assert seen() == [(1, set()), (2, set())]
    state.hear_all([report(("a", 1), ("b", 2))])
    assert seen() == [(2, {FunctionRef("a", 1), FunctionRef("b", 2)}), (2, set())]
    state.hear_all([report(("b", 2))])
    assert seen() == [(2, {FunctionRef("b", 2)}), (2, set())]
    state.hear_all([report()])
    assert seen() == [(2, set()), (2, set())]


def test_what_a_lost_worker_was_behind_with_is_forgotten() -> None:
    """Its jobs are queued again and may go elsewhere."""
    state = State(Cursor(), {}, Costs())
    state.hear_all([report(("a", 1))])
    state.drop_workers(["w"])
    assert state.behind == {}


def test_nothing_is_kept_of_a_function_that_is_gone_in_every_version() -> None:
    """Names come and go for as long as a scheduler leads."""
    state = State(Cursor(), {}, Costs())
    view = FunctionView(1, lambda _rows: 0, 1, True, False)
    state.pending.functions = {FunctionRef("a", 1): view, FunctionRef("a", 2): view}
    state.pending.shares.charge("a", 1.0)
    state.settled["a"] = 1
    state.forget_functions([FunctionRef("a", 1)])
    assert state.pending.shares.used_s == {"a": 1.0}
    state.forget_functions([FunctionRef("a", 2)])
    assert (state.pending.shares.used_s, dict(state.settled)) == ({}, {})


def test_costs_are_those_of_the_mean_speed() -> None:
    """What a fast worker measured would take the mean of all workers longer."""
    state = State(Cursor(), {}, Costs())
    fast = replace(a_worker("w"), flops=4e10, memory_bytes_per_s=1e10)
    slow = replace(a_worker("other"), flops=1e10, memory_bytes_per_s=1e10)
    state.set_workers([fast, slow])
    ended = GroupReport("g", "w", [("a", 1, 1)], 1.0, 0.0, 0.0)
    state.hear_all([Event("group", ended.encode())])
    assert state.costs.compute_s(FunctionRef("a", 1), 1) == pytest.approx(2**0.5)
    assert {view.id: view.speed for view in state.views()} == pytest.approx(
        {"w": 2**0.5, "other": 0.5**0.5}
    )
