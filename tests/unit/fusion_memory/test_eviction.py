"""Who leaves: orders of eviction as pure policy, and in the slot table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import BudgetExceeded, WeightsError
from fusion.eviction import ORDERS, by_cost, by_recency, choose_victims
from fusion.history import SETTLE_S, History
from fusion.lru import ByteLru
from fusion.slots import SlotTable
from tests.unit.fusion_memory.fakes import FakeClock, FakeLoader, request

KEYS = "abcdef"


def past_of(key: str, history: History, gap_s: float, reload_s: float, now_s: float) -> None:
    """Used every `gap_s` until now."""
    for k in range(3):
        history.asked(key, now_s - gap_s * (3 - k))
        history.released(key, now_s - gap_s * (3 - k))
    history.loaded(key, reload_s, now_s)
    history.released(key, now_s)


def test_by_cost_keeps_what_is_dear_small_and_wanted_soon() -> None:
    """Each of the three decides where the others are alike."""
    history = History()
    past_of("dear", history, 10.0, 5.0, 100.0)
    past_of("cheap", history, 10.0, 1.0, 100.0)
    past_of("rare", history, 50.0, 1.0, 100.0)
    sizes = {"dear": 10, "cheap": 10, "rare": 10}
    assert by_cost(sizes, history, 100.0) == ["rare", "cheap", "dear"]
    assert by_cost({"cheap": 100, "rare": 10}, history, 100.0) == ["cheap", "rare"]


def test_by_cost_gives_up_who_does_not_come_back() -> None:
    """However often it was used before."""
    history = History()
    past_of("gone", history, 1.0, 1.0, 100.0)
    past_of("steady", history, 50.0, 1.0, 300.0)
    assert by_cost({"steady": 10, "gone": 10}, history, 300.0) == ["gone", "steady"]


def test_without_any_past_the_least_recently_used_leaves() -> None:
    """All are alike then."""
    sizes = dict.fromkeys("cab", 10)
    assert by_cost(sizes, History(), 0.0) == by_recency(sizes, History(), 0.0) == ["c", "a", "b"]


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    pinned=st.sets(st.integers(0, 5)),
    spared=st.sets(st.sampled_from(KEYS)),
    uses=st.lists(st.tuples(st.sampled_from(KEYS), st.floats(0, 5)), max_size=20),
    bytes_=st.integers(1, 200),
    order=st.sampled_from(sorted(ORDERS)),
)
def test_any_order_frees_enough_or_nothing_and_never_what_is_held(
    sizes: list[int],
    pinned: set[int],
    spared: set[str],
    uses: list[tuple[str, float]],
    bytes_: int,
    order: str,
) -> None:
    """Whatever the past; settling functions may leave too, so nobody waits for them."""
    slots: ByteLru[str, None] = ByteLru()
    for number, size in enumerate(sizes):
        slots.put(KEYS[number], None, size)
        if number in pinned:
            slots.pin(KEYS[number])
    history, now_s = History(), 0.0
    for key, gap_s in uses:
        now_s += gap_s
        history.asked(key, now_s)
        history.loaded(key, gap_s / 10, now_s)
    victims = choose_victims(slots, bytes_, spared, ORDERS[order], history, now_s)
    free = [key for key in slots if not slots.pins(key) and key not in spared]
    freed = sum(map(slots.bytes_of, victims))
    assert set(victims) <= set(free)
    assert len(set(victims)) == len(victims)
    if sum(map(slots.bytes_of, free)) < bytes_:
        assert victims == []
    else:
        assert freed >= bytes_ > freed - slots.bytes_of(victims[-1])
    settled = [key for key in free if not history.is_settling(key, now_s)]
    if sum(map(slots.bytes_of, settled)) >= bytes_:
        assert set(victims) <= set(settled)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader(100)


def use(table: SlotTable, *names: str, bytes_: int = 30) -> None:
    with table.acquire([request(name, bytes_) for name in names], timeout_s=0):
        table.check_integrity()


def test_what_came_in_and_was_not_used_leaves_after_the_others(
    loader: FakeLoader, clock: FakeClock
) -> None:
    """Of a group that failed, "new" came in; a moment later it is as old as any."""
    table = SlotTable(loader, 100, clock)
    loader.broken = {"bad"}
    with pytest.raises(WeightsError):
        table.acquire([request("new", 30), request("bad", 30)])
    use(table, "a")
    use(table, "b")
    use(table, "c")
    assert table.stats().resident == ("new", "b", "c")
    clock.now_s += SETTLE_S
    use(table, "d")
    assert table.stats().resident == ("b", "c", "d")


def test_who_settles_leaves_at_once_where_no_other_can(
    loader: FakeLoader, clock: FakeClock
) -> None:
    """Nobody waits for it."""
    table = SlotTable(loader, 100, clock)
    loader.broken = {"bad"}
    with pytest.raises(WeightsError):
        table.acquire([request("new", 60), request("bad", 30)])
    use(table, "a", bytes_=60)
    assert table.stats().resident == ("a",)


def test_two_functions_of_more_than_half_the_budget_thrash_and_it_is_seen(
    loader: FakeLoader, clock: FakeClock
) -> None:
    """They run all the same, one after the other."""
    table = SlotTable(loader, 100, clock)
    for _ in range(3):
        use(table, "a", bytes_=60)
        use(table, "b", bytes_=60)
    stats = table.stats()
    assert (stats.loads, stats.evictions, stats.thrash) == (6, 5, 4)
    assert [past.thrash for past in table.pasts(2).values()] == [2, 2]
    table.forget("a")
    assert list(table.pasts(2)) == ["b"]
    assert table.stats().thrash == 4


def test_loads_from_disk_are_told_apart(loader: FakeLoader, clock: FakeClock) -> None:
    """By what was in host memory when the load began."""

    def take(_: str) -> None:
        clock.now_s += 2

    loader.during = take
    table = SlotTable(loader, 100, clock)
    use(table, "a")
    table.evict("a")
    loader.hosted = {"a": 0.97}
    use(table, "a")
    past = table.pasts(1)["a"]
    assert (past.loads, past.disk_loads, past.load_s, past.disk_load_s) == (2, 1, 4.0, 2.0)


@given(
    groups=st.lists(
        st.lists(st.sampled_from(KEYS), unique=True, min_size=1, max_size=3), max_size=40
    ),
    broken=st.sets(st.integers(0, 39)),
    steps_s=st.lists(st.floats(0, 2), min_size=40, max_size=40),
    order=st.sampled_from(sorted(ORDERS)),
)
def test_every_group_that_fits_is_served_at_once(
    groups: list[list[str]], broken: set[int], steps_s: list[float], order: str
) -> None:
    """With nothing held, no order and no hysteresis delays or refuses a group."""
    clock, loader = FakeClock(), FakeLoader(100)
    table = SlotTable(loader, 100, clock, order)
    for number, group in enumerate(groups):
        clock.now_s += steps_s[number]
        loader.broken = {group[-1]} if number in broken else set()
        sizes = {key: 10 + 10 * KEYS.index(key) for key in group}
        try:
            lease = table.acquire([request(k, size) for k, size in sizes.items()], timeout_s=0)
        except BudgetExceeded:
            assert sum(sizes.values()) > 100
        except WeightsError:
            assert number in broken
        else:
            lease.release()
        table.check_integrity()
    stats = table.stats()
    assert stats.loads == stats.evictions + len(stats.resident)
    assert stats.loads == sum(past.loads for past in table.pasts(99).values())
    assert stats.thrash <= stats.loads
