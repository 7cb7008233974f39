"""Slots: what is loaded, what is evicted, who waits and who is refused."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion.device import Device
from fusion.errors import BudgetExceeded, WeightsError
from fusion.slots import KEPT_S, SlotRequest, SlotTable, open_slots
from tests.unit.fusion_memory.fakes import FakeClock, FakeLoader, request

BUDGET_BYTES = 100


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader(BUDGET_BYTES)


@pytest.fixture
def table(loader: FakeLoader, clock: FakeClock) -> SlotTable:
    return SlotTable(loader, BUDGET_BYTES, clock)


def use(table: SlotTable, *requests: SlotRequest) -> None:
    with table.acquire(requests, timeout_s=0):
        table.check_integrity()


def start(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(is_so: Callable[[], bool]) -> None:
    """Poll for what the table tells nobody, such as that a thread began to wait."""
    deadline_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_a_group_is_loaded_once_and_pinned(table: SlotTable, loader: FakeLoader) -> None:
    """The second acquire finds it resident."""
    with table.acquire([request("a", 30), request("b", 20)], scratch_bytes=10) as lease:
        assert {"a", "b"} == lease.cold
        assert lease.loaded_bytes == 50
        stats = table.stats()
        assert (
            stats.resident_bytes,
            stats.pinned_bytes,
            stats.scratch_bytes,
            stats.used_bytes,
        ) == (50, 50, 10, 60)
    with table.acquire([request("b", 20)]) as lease:
        assert set() == lease.cold
    assert loader.loaded == ["a", "b"]
    assert (
        table.stats().used_bytes,
        table.stats().pinned_bytes,
        table.stats().leases,
    ) == (50, 0, 0)


def test_load_time_is_counted(table: SlotTable, loader: FakeLoader, clock: FakeClock) -> None:
    """By the table's clock, for the lease and in all."""

    def take_two_seconds(_: str) -> None:
        clock.now_s += 2

    loader.during = take_two_seconds
    with table.acquire([request("a", 30), request("b", 20)]) as lease:
        assert lease.load_s == 4.0
    assert table.stats().load_s == 4.0


def test_digests_are_compared_on_the_first_load_only(table: SlotTable, loader: FakeLoader) -> None:
    """A key names one file for ever."""
    use(table, request("a", 30))
    table.evict("a")
    use(table, request("a", 30))
    assert loader.verified == [False, True]
    table.evict("a")
    table.forget("a")
    use(table, request("a", 30))
    assert loader.verified == [False, True, False]


def test_a_function_named_twice_in_a_group_is_pinned_once(table: SlotTable) -> None:
    """The group is a set."""
    with table.acquire([request("a", 30), request("a", 30)]):
        assert table.stats().used_bytes == 30
        table.check_integrity()


def test_the_least_recently_used_leaves(table: SlotTable) -> None:
    """Use is acquire and release, not load."""
    for key in "abc":
        use(table, request(key, 30))
    use(table, request("a", 30))
    use(table, request("d", 30))
    assert table.stats().resident == ("c", "a", "d")


def test_scratch_evicts_as_weights_do(table: SlotTable) -> None:
    """Activations count in the same budget."""
    use(table, request("a", 60))
    with table.acquire([request("b", 30)], scratch_bytes=20):
        assert table.stats().resident == ("b",)


def test_a_resident_member_is_not_evicted_for_its_own_group(
    table: SlotTable, loader: FakeLoader
) -> None:
    """Though it is the least recently used."""
    use(table, request("a", 40))
    use(table, request("b", 40))
    use(table, request("a", 40), request("c", 40))
    assert loader.loaded == ["a", "b", "c"]
    assert table.stats().resident == ("a", "c")


def test_what_can_never_fit_is_refused(table: SlotTable) -> None:
    """At once, with the bytes, and nothing is evicted for it."""
    use(table, request("a", 40))
    with pytest.raises(BudgetExceeded) as raised:
        table.acquire([request("b", 60), request("c", 30)], scratch_bytes=20)
    assert (raised.value.needed_bytes, raised.value.budget_bytes) == (110, 100)
    assert table.stats().resident == ("a",)


def test_nothing_is_evicted_for_a_group_that_has_to_wait(table: SlotTable) -> None:
    """Eviction is all or nothing as well."""
    use(table, request("a", 30))
    with table.acquire([request("b", 60)]):
        with pytest.raises(TimeoutError, match="c"):
            table.acquire([request("c", 80)], timeout_s=0)
        assert table.stats().resident == ("a", "b")
    table.check_integrity()


def test_who_waits_is_served_when_a_lease_ends(table: SlotTable) -> None:
    """And first come is first served, though the second would fit."""
    order: list[str] = []

    def run(key: str, bytes_: int) -> None:
        with table.acquire([request(key, bytes_)]):
            order.append(key)

    lease = table.acquire([request("a", 60)])
    threads = [start(lambda: run("large", 70))]
    until(lambda: table.stats().waiting == 1)
    threads.append(start(lambda: run("small", 40)))
    until(lambda: table.stats().waiting == 2)
    assert order == []
    lease.release()
    for thread in threads:
        thread.join()
    assert order == ["large", "small"]
    table.check_integrity()


def test_two_callers_of_a_cold_function_load_it_once(table: SlotTable, loader: FakeLoader) -> None:
    """The second waits for the first, and others go on meanwhile."""
    loading, go_on = threading.Event(), threading.Event()

    def hold(name: str) -> None:
        if name == "a":
            loading.set()
            assert go_on.wait(10)

    loader.during = hold
    cold: list[set[str]] = []

    def run() -> None:
        with table.acquire([request("a", 40)]) as lease:
            cold.append(lease.cold)

    threads = [start(run)]
    assert loading.wait(10)
    threads.append(start(run))
    use(table, request("b", 20))
    assert table.stats().resident == ("b",)
    go_on.set()
    for thread in threads:
        thread.join()
    assert [set(), {"a"}] == sorted(cold, key=len)
    assert loader.loaded.count("a") == 1
    table.check_integrity()


def test_a_failed_load_gives_everything_back(table: SlotTable, loader: FakeLoader) -> None:
    """What was loaded for the group stays resident, unpinned; the rest is as if never asked."""
    loader.broken = {"b"}
    with pytest.raises(WeightsError, match="b: broken"):
        table.acquire([request("a", 30), request("b", 30), request("c", 30)], scratch_bytes=10)
    table.check_integrity()
    stats = table.stats()
    assert (
        stats.used_bytes,
        stats.pinned_bytes,
        stats.scratch_bytes,
        stats.leases,
    ) == (30, 0, 0, 0)
    assert (stats.resident, stats.loads, stats.failed_loads) == (("a",), 1, 1)
    loader.broken = set()
    use(table, request("b", 30))


def test_a_waiter_loads_what_another_failed_to(table: SlotTable, loader: FakeLoader) -> None:
    """A failure is the failing caller's alone."""
    loading, go_on = threading.Event(), threading.Event()

    def fail_once(name: str) -> None:
        if not loading.is_set():
            loading.set()
            assert go_on.wait(10)
            raise MemoryError

    loader.during = fail_once
    failed = []

    def run_first() -> None:
        try:
            table.acquire([request("a", 40)])
        except MemoryError as error:
            failed.append(error)

    first = start(run_first)
    assert loading.wait(10)
    second = start(lambda: table.acquire([request("a", 40)]).release())
    until(lambda: table.stats().leases == 2)
    go_on.set()
    first.join()
    second.join()
    assert len(failed) == 1
    assert table.stats().resident == ("a",)
    table.check_integrity()


def test_a_lease_is_released_once_and_then_useless(table: SlotTable) -> None:
    """Releasing again takes nobody else's pin."""
    first, second = table.acquire([request("a", 30)]), table.acquire([request("a", 30)])
    first.release()
    first.release()
    assert table.stats().pinned_bytes == 30
    with pytest.raises(AssertionError, match="released"):
        first.tensors("a")
    second.release()
    assert table.stats().pinned_bytes == 0


def test_use_is_noted_before_the_pin_goes(table: SlotTable, loader: FakeLoader) -> None:
    """The device may still read when the lease ends."""
    use(table, request("a", 30))
    assert loader.weights["a"].uses == 1


def test_bytes_count_while_a_view_is_held(table: SlotTable, loader: FakeLoader) -> None:
    """An evicted slot whose view lives on is still memory; it goes when the view does."""
    use(table, request("a", 60))
    loader.weights["a"].is_viewed = True
    assert table.evict("a")
    assert (table.stats().resident_bytes, table.stats().leaving_bytes) == (0, 60)
    with pytest.raises(BudgetExceeded):
        table.acquire([request("b", 60)])
    loader.weights["a"].is_viewed = False
    use(table, request("b", 60))
    assert table.stats().leaving_bytes == 0


def test_eviction_goes_on_until_measured_memory_suffices(
    table: SlotTable, loader: FakeLoader
) -> None:
    """Bytes that others took from the device are not in any account."""
    for key in "abc":
        use(table, request(key, 20))
    loader.measured_free_bytes = 5
    with pytest.raises(BudgetExceeded):
        table.acquire([request("d", 20)])
    assert table.stats().resident == ()  # it evicted all it could before it gave up
    loader.measured_free_bytes = 20
    use(table, request("d", 20))


def test_charged_memory_is_not_free_though_it_may_be_measured_so(
    table: SlotTable, loader: FakeLoader
) -> None:
    """torch counts what a captured graph keeps for its next run among what it could give out."""
    loader.measured_free_bytes = 30
    table.charge(15)
    with pytest.raises(BudgetExceeded):
        table.acquire([request("a", 20)])
    table.refund(15)
    use(table, request("a", 20))


@pytest.mark.parametrize(
    ("keep_alive_s", "resident_after"),
    [(None, (True, True, True)), (0, (False,) * 3), (5, (True, True, False)), (-1, (True,) * 3)],
)
def test_keep_alive_decides_how_long_an_idle_function_stays(
    table: SlotTable, clock: FakeClock, keep_alive_s: float | None, resident_after: tuple[bool, ...]
) -> None:
    """None: till LRU takes it; 0: not at all; 5: five idle seconds; -1: for good."""
    use(table, request("a", 30, keep_alive_s))
    found = []
    for advance_s in (0, 4.9, 0.1):
        clock.now_s += advance_s
        table.evict_idle(clock.now_s)
        found.append(table.stats().resident == ("a",))
    assert resident_after == tuple(found)


def test_evict_idle_says_when_the_next_is_due(table: SlotTable, clock: FakeClock) -> None:
    """The earliest of the idle; who is held is due to nobody."""
    use(table, request("a", 10, 5))
    use(table, request("b", 10, 9))
    assert clock.now_s + 5 == table.evict_idle(clock.now_s)
    with table.acquire([request("a", 10, 5)]):
        assert clock.now_s + 9 == table.evict_idle(clock.now_s)
    assert table.evict_idle(clock.now_s + 9) is None
    assert table.stats().resident == ()


def test_a_kept_function_is_never_evicted_to_make_room(table: SlotTable) -> None:
    """What does not fit beside it is refused; by name it goes."""
    use(table, request("kept", 60, KEPT_S))
    use(table, request("a", 40))
    use(table, request("b", 40))
    assert table.stats().resident == ("kept", "b")
    with pytest.raises(BudgetExceeded, match="keep_alive_s -1"):
        table.acquire([request("c", 50)])
    assert table.evict("kept")
    use(table, request("c", 50))


def test_keeping_more_than_three_quarters_is_refused(table: SlotTable) -> None:
    """Nothing else could swap; loaded without the wish it would be welcome."""
    use(table, request("a", 50, KEPT_S))
    with pytest.raises(BudgetExceeded, match="keeping") as raised:
        table.acquire([request("b", 30, KEPT_S)])
    assert (raised.value.needed_bytes, raised.value.budget_bytes) == (80, 75)
    use(table, request("b", 30))
    with pytest.raises(BudgetExceeded, match="keeping"):
        table.acquire([request("b", 30, KEPT_S)])


def test_a_negative_keep_alive_is_refused() -> None:
    """-1 has a meaning, -2 has none."""
    with pytest.raises(ValueError, match="keep_alive_s is -2"):
        request("a", 1, -2)


def test_a_held_or_absent_function_is_not_evicted(table: SlotTable) -> None:
    """evict says whether it did."""
    assert table.evict("a") is False
    with table.acquire([request("a", 30)]):
        assert table.evict("a") is False
    assert table.evict("a") is True


def test_a_charge_evicts_and_never_waits(table: SlotTable) -> None:
    """Its caller may hold the very lease that is in the way."""
    use(table, request("a", 30))
    with table.acquire([request("b", 50)]):
        table.charge(40)
        assert table.stats().resident == ("b",)
        with pytest.raises(BudgetExceeded):
            table.charge(20)
    assert table.stats().used_bytes == 90
    table.refund(40)
    assert table.stats().used_bytes == 50
    with pytest.raises(AssertionError):
        table.refund(1)


def test_slots_that_do_not_suffice_reclaim_from_others(table: SlotTable) -> None:
    """First its own, then what others give up; who cannot is refused, not left waiting."""

    def give_up(bytes_: int) -> int:
        freed = min(30, table.stats().charged_bytes)
        table.refund(freed)
        return freed

    table.charge(60)
    use(table, request("a", 40))
    table.reclaim_from(give_up)
    use(table, request("b", 70))
    assert (table.stats().charged_bytes, table.stats().resident) == (30, ("b",))
    table.reclaim_from(lambda _: 0)
    with pytest.raises(BudgetExceeded):
        table.acquire([request("c", 80)])


def test_others_give_up_nothing_where_that_would_not_do(table: SlotTable) -> None:
    """A group that must wait for slots in use anyway leaves the cached DAGs alone."""

    def give_up(bytes_: int) -> int:
        raise AssertionError(f"asked for {bytes_} bytes in vain")

    table.charge(10)
    table.reclaim_from(give_up)
    with table.acquire([request("a", 80)]), pytest.raises(TimeoutError):
        table.acquire([request("b", 40)], timeout_s=0.0)
    assert table.stats().charged_bytes == 10


def test_a_key_that_names_another_file_is_a_bug(table: SlotTable) -> None:
    """Versions are immutable."""
    use(table, request("a", 30))
    with pytest.raises(AssertionError, match="one file"):
        table.acquire([request("a", 31)])
    table.check_integrity()


def test_a_request_is_found_by_its_file(tmp_path: Path) -> None:
    """A missing file is a WeightsError and costs nothing."""
    table = open_slots(Device("cpu"), 2**20)
    missing = request(str(tmp_path / "missing"), 4096)
    with pytest.raises(WeightsError, match="missing"):
        table.acquire([missing])
    assert table.stats().used_bytes == 0
