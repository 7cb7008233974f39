"""Slots against a model: any history of acquires, releases, evictions and failures."""

import random
import threading
import time
from collections.abc import Iterable

from fusion.errors import BudgetExceeded
from fusion.slots import SlotTable
from tests.unit.fusion_memory.fakes import FakeLoader, request
from tests.unit.fusion_memory.histories import HISTORIES, Functions, histories

BUDGET_BYTES = 100
SIZES = {"a": 10, "b": 20, "c": 30, "d": 40, "e": 60}
KEEP_ALIVES = {"a": None, "b": 0, "c": 3, "d": None, "e": None}


def requests(group: list[str]) -> list:
    return [request(key, SIZES[key], KEEP_ALIVES[key]) for key in group]


def bytes_of(keys: Iterable[str]) -> int:
    return sum(SIZES[key] for key in keys)


FUNCTIONS = Functions(KEEP_ALIVES, requests, bytes_of, FakeLoader, BUDGET_BYTES)
TestSlotHistories = histories(FUNCTIONS).TestCase
TestSlotHistories.settings = HISTORIES


def test_many_threads_stay_within_the_budget_and_all_finish() -> None:
    """Random groups, failures and charges; the loader counts bytes at every load."""
    loader = FakeLoader(BUDGET_BYTES)
    table = SlotTable(loader, BUDGET_BYTES)
    finished: list[int] = []

    def fail_at_times(_: str) -> None:
        if random.random() < 0.05:
            raise MemoryError

    loader.during = fail_at_times

    def work(seed: int) -> None:
        chooser = random.Random(seed)
        done = 0
        while done < 150:
            group = chooser.sample(["a", "b", "c", "d"], chooser.randint(1, 3))
            try:
                with table.acquire(requests(group), chooser.randint(0, 10)) as lease:
                    assert set(group) == set(lease.slots)
                    table.check_integrity()
                    charge_and_refund(chooser.randint(0, 5))
                done += 1
            except MemoryError:
                continue
            table.evict(chooser.choice("abcd"))
            table.evict_idle(time.monotonic())
        finished.append(seed)

    def charge_and_refund(bytes_: int) -> None:
        try:
            table.charge(bytes_)
        except BudgetExceeded:
            return
        table.refund(bytes_)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert list(range(8)) == sorted(finished)
    table.check_integrity()
    stats = table.stats()
    assert (stats.leases, stats.waiting, stats.pinned_bytes) == (0, 0, 0)
    assert stats.resident_bytes == loader.held_bytes
