"""Groups, swaps, builds and errors of predictions; what is kept gives the same predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.function import FunctionRef
from contract.store.queue import GroupReport
from workers.scheduling.costs import DISK, HOST, PRIOR_COMPUTE_S, Costs, members_of
from workers.scheduling.costs.curves import BUCKETS, Curve, bucket_of
from workers.scheduling.costs.interference import SETS
from workers.scheduling.costs.lines import Point, fit
from workers.scheduling.costs.samples import KEPT, quantile_of
from workers.scheduling.records import WorkerView

A, B, C = (FunctionRef(name, 1) for name in "abc")
SECONDS = st.floats(1e-5, 10)
ROWS = st.integers(1, 300)
GROUPS = st.lists(
    st.tuples(st.dictionaries(st.sampled_from([A, B, C]), ROWS, min_size=1), SECONDS),
    min_size=1,
    max_size=30,
)


def report(
    rows: Mapping[FunctionRef, int],
    compute_s: float,
    *strategies: str,
    member_s: Sequence[float] = (),
) -> GroupReport:
    """A group that has computed."""
    members = [(ref.name, ref.version, n) for ref, n in rows.items()]
    return GroupReport("g", "w", members, compute_s, 0, 0, strategies=strategies, member_s=member_s)


def view(**changes: object) -> WorkerView:
    """A worker."""
    return WorkerView("w", 1, 10**9, frozenset(), **changes)  # type: ignore[arg-type]


def learned(groups: Sequence[tuple[Mapping[FunctionRef, int], float]]) -> Costs:
    """A model of these groups."""
    costs = Costs()
    for rows, seconds in groups:
        costs.learn(report(rows, seconds, "serial"))
    return costs


@given(
    st.lists(
        st.builds(Point, st.integers(1, 2**20), SECONDS, st.integers(1, 20)),
        min_size=1,
        max_size=20,
    )
)
def test_more_never_takes_less_by_the_line(points: list[Point]) -> None:
    """And nothing takes negative time."""
    line = fit(points, 0.5)
    times = [line.at(x) for x in (0, 1, 2, 7, 1000, 2**20)]
    assert times == sorted(times)
    assert times[0] >= 0


@given(st.lists(SECONDS, min_size=1, max_size=40), st.floats(0, 1))
def test_a_quantile_lies_among_what_was_measured(values: list[float], share: float) -> None:
    """And grows with its share."""
    found = quantile_of(values, share)
    assert min(values) <= found <= max(values)
    assert quantile_of(values, 0) <= found <= quantile_of(values, 1)


@given(st.lists(st.tuples(ROWS, SECONDS), min_size=1, max_size=40), ROWS)
def test_a_high_quantile_is_never_below_the_median(
    runs: list[tuple[int, float]], rows: int
) -> None:
    """Of rows that were seen and of others."""
    curve = Curve()
    for count, seconds in runs:
        curve.learn(count, seconds)
    assert 0 <= curve.predict_s(rows, 0.5) <= curve.predict_s(rows, 0.95)


@given(st.lists(st.tuples(st.integers(1, 2**40), SECONDS), max_size=80))
def test_a_curve_is_bounded(runs: list[tuple[int, float]]) -> None:
    """Whatever sizes come."""
    curve = Curve()
    for x, seconds in runs:
        curve.learn(x, seconds)
    assert len(curve.as_list()) <= BUCKETS
    assert curve.runs <= BUCKETS * KEPT


def test_one_slow_run_does_not_move_the_median() -> None:
    """As a run that paged something in."""
    curve = Curve()
    for seconds in (1.0, 0.01, 0.01, 0.01):
        curve.learn(4, seconds)
    assert curve.predict_s(4) == pytest.approx(0.01)
    assert curve.predict_s(4, 1.0) == pytest.approx(1.0)


def test_the_way_that_ran_of_late_is_predicted() -> None:
    """A tier that has replaced another one: the times of the old one are over."""
    curve = Curve()
    for _ in range(12):
        curve.learn(4, 1.0, "generated")
    for _ in range(5):
        curve.learn(4, 0.1, "compiled")
    assert curve.predict_s(4) == pytest.approx(0.1)


@settings(max_examples=50)
@given(GROUPS, SECONDS)
def test_parts_add_up_to_the_group(
    groups: list[tuple[dict[FunctionRef, int], float]], compute_s: float
) -> None:
    """Device time is charged once, to somebody."""
    costs = learned(groups)
    parts = costs.learn(report({A: 3, B: 2}, compute_s))
    assert [ref for ref, _ in parts] == [A, B]
    assert all(part >= 0 for _, part in parts)
    assert sum(part for _, part in parts) == pytest.approx(compute_s)


def test_parts_are_as_the_worker_measured_them() -> None:
    """Where members ran one after another; what is beside them is shared out alike."""
    parts = Costs().learn(report({A: 1, B: 1}, 1.0, "serial", member_s=[0.2, 0.6]))
    assert dict(parts) == pytest.approx({A: 0.25, B: 0.75})


def test_a_group_costs_what_groups_of_its_size_add() -> None:
    """Members side by side take less than their sum: that holds for another pair too."""
    costs = Costs()
    for _ in range(10):
        for ref in (A, B, C):
            costs.learn(report({ref: 1}, 0.1))
    assert costs.group_s({A: 1, B: 1}) == pytest.approx(0.2)
    for _ in range(20):
        costs.learn(report({A: 1, B: 1}, 0.12, "branches"))
    assert costs.group_s({A: 1, B: 1}) == pytest.approx(0.12, rel=0.05)
    assert costs.group_s({B: 1, C: 1}) < 0.2


def test_a_set_with_times_of_its_own_is_learned_beside_the_others() -> None:
    """Two heads on one backbone are not as any two functions."""
    costs = Costs()
    for _ in range(40):
        for ref in (A, B, C):
            costs.learn(report({ref: 1}, 0.1))
        costs.learn(report({A: 1, B: 1}, 0.1, "prefix"))
        costs.learn(report({A: 1, C: 1}, 0.2, "serial"))
        costs.learn(report({B: 1, C: 1}, 0.2, "serial"))
    assert costs.group_s({A: 1, B: 1}) == pytest.approx(0.1, rel=0.15)
    assert costs.group_s({A: 1, C: 1}) == pytest.approx(0.2, rel=0.15)


def test_a_function_that_never_ran_takes_what_it_took_at_deploy() -> None:
    """Times the ratio of workers to the machines that functions came from."""
    costs = Costs()
    costs.expect(A, {1: 0.010, 8: 0.045})
    assert costs.compute_s(A, 1) == pytest.approx(0.010)
    assert costs.compute_s(A, 4) == pytest.approx(0.025)
    for _ in range(5):
        costs.learn(report({A: 1}, 0.020))
    costs.expect(B, {1: 0.001, 8: 0.008})
    assert costs.compute_s(B, 8) == pytest.approx(0.016, rel=0.01)
    assert not costs.is_measured(B)


def test_one_measured_size_is_carried_on_in_the_shape_of_the_probe() -> None:
    """Half of a time grows with rows only where nothing tells better."""
    costs = Costs()
    costs.expect(A, {1: 0.010, 8: 0.010})
    costs.learn(report({A: 1}, 0.020))
    assert costs.compute_s(A, 8) == pytest.approx(0.020)


def test_swaps_are_learned_by_tier_and_worker() -> None:
    """What comes from disk is slow, and one worker's disk is not another's."""
    costs = Costs()
    for size in (10**6, 10**8):
        for worker, factor in (("w", 1), ("v", 3)):
            host_s, disk_s = size / 1e9, factor * size / 1e8
            costs.learn(GroupReport("g", worker, [], 0, host_s, 0, size))
            costs.learn(
                GroupReport("g", worker, [], 0, disk_s, 0, size, disk_bytes=size, disk_s=disk_s)
            )
    assert costs.swap_s(10**7, "w", HOST) == pytest.approx(0.01, rel=0.01)
    assert costs.swap_s(10**7, "w", DISK) == pytest.approx(0.1, rel=0.01)
    assert costs.swap_s(10**7, "v", DISK) == pytest.approx(0.3, rel=0.01)
    hosted = view(hosted=frozenset({A}))
    assert costs.load_s({A: 10**7, B: 10**7}, hosted) == pytest.approx(0.11, rel=0.01)


def test_a_dag_that_the_worker_has_takes_no_time() -> None:
    """Others take what DAGs of as many members took."""
    costs = Costs()
    built = report({A: 2, B: 1}, 0.1)._replace(build_s=0.05, built=1)
    for _ in range(3):
        costs.learn(built)
    assert costs.build_s({A: 2, B: 1}, view()) == pytest.approx(0.05)
    has_it = view(cached={members_of([(A, 2), (B, 1)])})
    assert costs.build_s({B: 1, A: 2}, has_it) == 0.0


def test_errors_are_of_predictions_made_before() -> None:
    """A steady function is known after its first run, the first one by the prior."""
    costs = Costs()
    costs.learn(report({A: 1}, 2 * PRIOR_COMPUTE_S))
    assert costs.errors().compute == (0.5, 0.5, 1)
    for _ in range(20):
        costs.learn(report({A: 1}, 2 * PRIOR_COMPUTE_S))
    error = costs.errors().functions["a@1"]
    assert (error.median, error.groups) == (pytest.approx(0), 21)
    assert costs.errors().total is None
    costs.note_total(0.3, report({A: 1}, 0.1)._replace(swap_s=0.05, build_s=0.05))
    total = costs.errors().total
    assert total is not None
    assert total.median == pytest.approx(0.5)


@settings(max_examples=50)
@given(GROUPS, st.dictionaries(st.sampled_from([A, B, C]), ROWS, min_size=1))
def test_what_is_kept_predicts_the_same(
    groups: list[tuple[dict[FunctionRef, int], float]], asked: dict[FunctionRef, int]
) -> None:
    """To the last bit: a scheduler that takes over decides as the last one did."""
    costs = learned(groups)
    costs.learn(GroupReport("g", "w", [], 0, 0.5, 0, 10**6, disk_bytes=10**5, disk_s=0.2))
    fields: dict[str, bytes] = {}
    while changes := costs.take_changes(3):
        fields |= {field: value for field, value in changes.items() if value is not None}
    again = Costs.of(fields)
    for quantile in (0.5, 0.95):
        assert again.group_s(asked, view(), quantile) == costs.group_s(asked, view(), quantile)
    for tier in (HOST, DISK, ""):
        assert again.swap_s(12345, "w", tier) == costs.swap_s(12345, "w", tier)
    assert again.take_changes(10) == {}


def test_a_field_that_is_not_understood_is_learned_again() -> None:
    """As one of another version of the platform."""
    costs = learned([({A: 1}, 0.1)])
    fields = {name: value for name, value in costs.take_changes(9).items() if value is not None}
    again = Costs.of({**fields, "f:b@1": b"\xc1", "x:": b"\x90", "n:2": b"\x90", "f:c@1": b"\x05"})
    assert again.refs() == [A]
    assert again.compute_s(A, 1) == costs.compute_s(A, 1)


def test_a_removed_version_is_forgotten_in_the_store_too() -> None:
    """With the sets it was in."""
    costs = learned([({A: 1}, 0.1), ({B: 1}, 0.1)] * 4 + [({A: 1, B: 1}, 0.2)])
    costs.take_changes(99)
    costs.forget(A)
    assert costs.take_changes(99) == {"f:a@1": None, "s:a@1*1 b@1*1": None}
    assert costs.compute_s(A, 1) == PRIOR_COMPUTE_S
    assert costs.refs() == [B]


def test_sets_of_members_are_bounded() -> None:
    """Traffic may bring ever new ones; those given up leave the store."""
    costs = learned([({A: 1}, 0.1), ({B: 1}, 0.1)] * 4)
    others = [FunctionRef(f"f{k}", 1) for k in range(SETS + 5)]
    for ref in others:
        for _ in range(3):
            costs.learn(report({ref: 1}, 0.1))
        costs.learn(report({A: 1, ref: 1}, 0.2))
    kept = costs.take_changes(10**6)
    sets = [value for name, value in kept.items() if name.startswith("s:")]
    assert sum(value is not None for value in sets) == SETS
    assert sum(value is None for value in sets) == 5


@pytest.mark.parametrize(("x", "bucket"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (65, 128)])
def test_buckets_are_powers_of_two(x: int, bucket: int) -> None:
    """As those of tiers and fused DAGs."""
    assert bucket_of(x) == bucket
