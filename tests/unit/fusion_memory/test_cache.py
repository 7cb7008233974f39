"""The DAG cache: single flight, failures, sizes that change, and the budget it shares."""

import random
import threading
from dataclasses import dataclass

import pytest

from fusion.cache import DagCache
from fusion.errors import BudgetExceeded
from fusion.slots import SlotTable
from tests.unit.fusion_memory.fakes import FakeLoader, request

BUDGET_BYTES = 100


@dataclass(frozen=True)
class Entry:
    bytes: int


Cache = DagCache[str, Entry]


class BuildFailed(Exception):
    pass


def shared(dag_bytes: int) -> tuple[SlotTable, Cache]:
    """A slot table and a cache that count in one budget of 100 bytes."""
    table = SlotTable(FakeLoader(BUDGET_BYTES), BUDGET_BYTES)
    cache = Cache(dag_bytes, table.charge, table.refund)
    table.reclaim_from(cache.shrink)
    return table, cache


def put(cache: Cache, key: str, bytes_: int) -> Entry:
    with cache.get(key, lambda: Entry(bytes_)) as entry:
        return entry


def test_an_entry_is_built_once_and_found_again() -> None:
    """Hits, misses and builds are counted."""
    cache = Cache(BUDGET_BYTES)
    first = put(cache, "a", 10)
    assert first is put(cache, "a", 99)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.builds, stats.entries, stats.bytes) == (1, 1, 1, 1, 10)
    assert stats.pinned_bytes == 0


def gather(cache: Cache, build_error: Exception | None) -> tuple[list[object], int]:
    """Four threads ask for one key while its build is held up; what each got, and the builds."""
    building, go_on = threading.Event(), threading.Event()
    got: list[object] = []
    builds: list[int] = []
    inside = threading.Barrier(4)

    def build() -> Entry:
        builds.append(1)
        building.set()
        assert go_on.wait(10)
        if build_error is not None:
            raise build_error
        return Entry(10)

    def ask() -> None:
        try:
            with cache.get("a", build) as entry:
                inside.wait(10)
                got.append(entry)
        except BuildFailed as error:
            got.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    threads[0].start()
    assert building.wait(10)
    for thread in threads[1:]:
        thread.start()
    while cache.stats().misses != 4:
        threading.Event().wait(0.001)  # the cache tells nobody who begins to wait
    go_on.set()
    for thread in threads:
        thread.join(10)
    return got, len(builds)


def test_threads_that_ask_together_share_one_build() -> None:
    """All hold the same entry at once, and all let go of it."""
    cache = Cache(BUDGET_BYTES)
    got, builds = gather(cache, None)
    assert [Entry(10)] * 4 == got
    assert (builds, cache.stats().pinned_bytes) == (1, 0)
    assert cache.shrink(1) == 10
    cache.check_integrity()


def test_a_failed_build_reaches_all_who_waited_and_is_not_kept() -> None:
    """The next to ask builds again."""
    cache = Cache(BUDGET_BYTES)
    error = BuildFailed()
    got, builds = gather(cache, error)
    assert [error] * 4 == got
    assert (builds, cache.stats().failed_builds, cache.stats().entries) == (1, 1, 0)
    assert Entry(7) == put(cache, "a", 7)


def test_an_error_inside_the_context_lets_go_of_the_entry() -> None:
    """It stays cached: the run failed, not the DAG."""
    cache = Cache(BUDGET_BYTES)
    with pytest.raises(BuildFailed), cache.get("a", lambda: Entry(10)):
        raise BuildFailed
    assert (cache.stats().entries, cache.stats().pinned_bytes) == (1, 0)


def test_an_entry_can_grow_and_shrink() -> None:
    """Others leave for it; what cannot fit changes nothing."""
    cache = Cache(BUDGET_BYTES)
    put(cache, "old", 50)
    with cache.get("a", lambda: Entry(10)):
        cache.resize("a", 60)
        assert (cache.keys(), cache.stats().bytes) == (("a",), 60)
        with pytest.raises(BudgetExceeded):
            cache.resize("a", 101)
        assert cache.stats().bytes == 60
        cache.resize("a", 5)
    assert cache.stats().bytes == 5
    cache.check_integrity()


def test_dags_count_in_the_devices_budget() -> None:
    """A build evicts slots, within the cache's own share."""
    table, cache = shared(60)
    table.acquire([request("f", 70)]).release()
    put(cache, "a", 50)
    assert (table.stats().resident, table.stats().used_bytes, cache.stats().bytes) == ((), 50, 50)
    put(cache, "b", 30)
    assert (cache.keys(), table.stats().charged_bytes) == (("b",), 30)


def test_a_dag_without_room_beside_held_slots_is_refused() -> None:
    """And charged to nobody."""
    table, cache = shared(60)
    with table.acquire([request("f", 70)]):
        with pytest.raises(BudgetExceeded), cache.get("a", lambda: Entry(40)):
            pass
        with cache.get("b", lambda: Entry(20)), pytest.raises(BudgetExceeded):
            cache.resize("b", 40)
    assert (cache.keys(), cache.stats().bytes, table.stats().charged_bytes) == (("b",), 20, 20)
    cache.check_integrity()


def test_slots_take_room_from_dags_that_nobody_runs() -> None:
    """The oldest first, and only as many as are needed."""
    table, cache = shared(60)
    for key in "abc":
        put(cache, key, 20)
    with cache.get("a", lambda: Entry(20)), table.acquire([request("f", 60)]):
        assert (cache.keys(), table.stats().charged_bytes) == (("c", "a"), 40)


def test_many_threads_keep_both_accounts_equal() -> None:
    """Builds, failures, resizes, slots and shrinks at once; charges end as the cache's bytes."""
    table, cache = shared(50)
    finished = []

    def build(bytes_: int) -> Entry:
        if bytes_ == 0:
            raise BuildFailed
        return Entry(bytes_)

    def work(seed: int) -> None:
        chooser = random.Random(seed)
        for _ in range(200):
            key, bytes_ = chooser.choice("abcdef"), chooser.randint(0, 15)
            try:
                with (
                    table.acquire([request(chooser.choice("fgh"), 20)], chooser.randint(0, 5)),
                    cache.get(key, lambda bytes_=bytes_: build(bytes_)),
                ):
                    cache.resize(key, chooser.randint(1, 15))
                    table.check_integrity()
            except (BuildFailed, BudgetExceeded):
                cache.shrink(chooser.randint(0, 10))
            cache.check_integrity()
        finished.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert list(range(6)) == sorted(finished)
    assert table.stats().charged_bytes == cache.stats().bytes
    assert cache.stats().pinned_bytes == 0
