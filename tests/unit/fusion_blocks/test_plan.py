"""Plans: every weight is there when it is used, and the bytes never exceed what is available."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.blocks.plan import least_bytes, make_plan, plain_plan
from fusion.blocks.records import PAGE_BYTES, BlockPlan, Extent, Load, spans_of
from fusion.errors import BudgetExceeded

KIB = 1024


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Load], list[Extent], frozenset[int]]:
    """Steps over a file; some weights are used twice, out of order, or have no bytes."""
    sizes = draw(st.lists(st.integers(0, 900 * KIB), min_size=1, max_size=12))
    gaps = draw(st.lists(st.integers(0, 100 * KIB), min_size=len(sizes), max_size=len(sizes)))
    extents, at = [], 0
    for size, gap in zip(sizes, gaps, strict=True):
        extents.append(Extent(at, at + size))
        at += size + gap
    indices = st.integers(0, len(extents) - 1)
    used = draw(st.lists(st.sets(indices, max_size=3), min_size=1, max_size=16))
    seconds = draw(st.lists(st.floats(0, 0.01), min_size=len(used), max_size=len(used)))
    steps = [Load(tuple(sorted(u)), s) for u, s in zip(used, seconds, strict=True)]
    return steps, extents, frozenset(draw(st.sets(indices, max_size=2)))


def played(plan: BlockPlan, runs: int = 3) -> None:
    """Reads as eager as the plan allows, into a ring that remembers whose each page is."""
    ring: list[tuple[int, int] | None] = [None] * (plan.ring_bytes // PAGE_BYTES)
    count, asked = len(plan.blocks), 0
    for number in range(runs * count):
        while asked - plan.blocks[asked % count].after < number:
            block = plan.blocks[asked % count]
            assert block.offset + block.bytes <= plan.ring_bytes
            for page in range(block.bytes // PAGE_BYTES):
                ring[block.offset // PAGE_BYTES + page] = (asked, page)
            asked += 1
        assert asked > number, "a block is asked for before it is computed"
        block = plan.blocks[number % count]
        for page in range(block.bytes // PAGE_BYTES):
            assert ring[block.offset // PAGE_BYTES + page] == (number, page)


def checked(
    plan: BlockPlan, steps: list[Load], extents: list[Extent], available_bytes: int
) -> None:
    """The plan covers the steps, holds what they read, and stays within the bytes."""
    assert plan.peak_bytes <= available_bytes
    assert plan.resident_bytes == sum(s.end - s.begin for s in plan.resident_spans)
    ends = [block.end for block in plan.blocks]
    assert [block.begin for block in plan.blocks] == [0, *ends[:-1]]
    assert ends[-1] == len(steps)
    for block in plan.blocks:
        used = {k for step in steps[block.begin : block.end] for k in step.extents}
        read = {k for k in used - {*plan.resident} if extents[k].end > extents[k].begin}
        assert read == {*block.extents}
        for k in read:
            assert any(s.begin <= extents[k].begin and extents[k].end <= s.end for s in block.spans)
        for span in block.spans:
            assert (span.begin % PAGE_BYTES, span.end % PAGE_BYTES) == (0, 0)
    played(plan)


@given(problem=problems(), share=st.floats(0, 1.5), rate=st.sampled_from([1e8, 1e9, 1e12]))
def test_any_budget_from_the_least_on_gives_a_plan_that_keeps_to_it(
    problem: tuple[list[Load], list[Extent], frozenset[int]], share: float, rate: float
) -> None:
    """What must stay stays; one page less than the least is refused, with the bytes it needs."""
    steps, extents, must_stay = problem
    least = least_bytes(steps, extents, must_stay)
    total = sum(s.end - s.begin for s in spans_of(extents))
    available = least + int(share * total)
    plan = make_plan(steps, extents, must_stay, available, rate)
    assert must_stay <= {*plan.resident}
    checked(plan, steps, extents, available)
    plain = plain_plan(steps, extents, must_stay, available, rate)
    assert plan.least_s * (1 - 1e-9) <= plan.run_s <= plain.run_s
    if least:
        with pytest.raises(BudgetExceeded) as refused:
            make_plan(steps, extents, must_stay, least - 1, rate)
        assert (refused.value.needed_bytes, refused.value.budget_bytes) == (least, least - 1)


def layers(count: int, size: int, compute_s: float) -> tuple[list[Load], list[Extent]]:
    """Equal layers one after another."""
    extents = [Extent(k * size, (k + 1) * size) for k in range(count)]
    return [Load((k,), compute_s) for k in range(count)], extents


def test_two_blocks_are_the_least() -> None:
    """One is computed while the next is read."""
    steps, extents = layers(10, 2**20, 0.01)
    assert least_bytes(steps, extents, ()) == 2 * 2**20


def test_what_computation_hides_costs_nothing() -> None:
    """Reading at twice the speed of computing: a run takes as long as computing does."""
    steps, extents = layers(16, 2**20, 0.010)
    plan = make_plan(steps, extents, (), 4 * 2**20, 2**20 / 0.005)
    assert plan.run_s < 16 * 0.010 * 1.05


def test_what_cannot_be_hidden_is_read_less() -> None:
    """Reading at half the speed of computing: as much stays as there is room for."""
    steps, extents = layers(16, 2**20, 0.010)
    plan = make_plan(steps, extents, (), 12 * 2**20, 2**20 / 0.020)
    assert plan.resident_bytes >= 8 * 2**20
    assert plan.run_s < 16 * 0.010 * 1.1


def test_what_the_budget_cannot_hold_is_waited_for() -> None:
    """Computation first, then weights alone, as in a VGG: the ring is full when they begin."""
    computing = [Load((), 0.100)]
    extents = [Extent(k * 2**20, (k + 1) * 2**20) for k in range(64)]
    steps = [*computing, *(Load((k,), 0.0001) for k in range(64))]
    plan = make_plan(steps, extents, (), 24 * 2**20, 2**20 / 0.002)
    assert plan.least_s == pytest.approx(0.100 + 40 * 0.002, rel=0.01)
    assert plan.run_s < plan.least_s * 1.1


def test_layers_that_are_all_weight_stay_before_those_that_compute() -> None:
    """Where only some can: their reads have least to hide behind."""
    computing, _ = layers(8, 2**20, 0.020)
    extents = [Extent(k * 2**20, (k + 1) * 2**20) for k in range(16)]
    weighing = [Load((8 + k,), 0.0001) for k in range(8)]
    plan = make_plan([*computing, *weighing], extents, (), 10 * 2**20, 2**20 / 0.010)
    assert {*plan.resident} <= set(range(8, 16))
    assert plan.resident


def test_a_function_that_fits_is_one_block() -> None:
    """Nothing is read again."""
    steps, extents = layers(4, 2**20, 0.001)
    plan = make_plan(steps, extents, (), 4 * 2**20, 1e9)
    assert (len(plan.blocks), plan.ring_bytes, plan.read_bytes) == (1, 0, 0)
