"""Slots against a model: any history of acquires, releases, evictions and failures."""

import random
import threading
import time

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fusion.errors import BudgetExceeded, WeightsError
from fusion.slots import Lease, SlotTable
from tests.unit.fusion_memory.fakes import FakeClock, FakeLoader, request

BUDGET_BYTES = 100
SIZES = {"a": 10, "b": 20, "c": 30, "d": 40, "e": 60}
KEEP_ALIVES = {"a": None, "b": 0, "c": 3, "d": None, "e": None}
GROUPS = st.lists(st.sampled_from(sorted(SIZES)), unique=True, max_size=3)


def requests(group: list[str]) -> list:
    return [request(key, SIZES[key], KEEP_ALIVES[key]) for key in group]


class SlotHistories(RuleBasedStateMachine):
    """The model: keys in order of use, the groups that hold them, and charged bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.loader = FakeLoader(BUDGET_BYTES)
        self.table = SlotTable(self.loader, BUDGET_BYTES, self.clock)
        self.order: list[str] = []
        self.held: list[tuple[Lease, list[str], int]] = []
        self.released_at_s: dict[str, float] = {}
        self.charged = 0

    def pinned(self) -> set[str]:
        return {key for _, group, _ in self.held for key in group}

    def used(self) -> int:
        return sum(SIZES[k] for k in self.order) + sum(s for _, _, s in self.held) + self.charged

    def model_room(self, bytes_: int, spare: set[str]) -> bool:
        """Plain LRU: the oldest leave until it fits, if that suffices."""
        victims = []
        for key in self.order:
            if self.used() - sum(SIZES[v] for v in victims) + bytes_ <= BUDGET_BYTES:
                break
            if key not in spare | self.pinned():
                victims.append(key)
        if self.used() - sum(SIZES[v] for v in victims) + bytes_ > BUDGET_BYTES:
            return False
        self.order = [key for key in self.order if key not in victims]
        return True

    def model_use(self, group: list[str]) -> None:
        for key in group:
            if key in self.order:
                self.order.remove(key)
            self.order.append(key)

    def model_release(self, group: list[str]) -> None:
        self.model_use(group)
        for key in group:
            self.released_at_s[key] = self.clock.now_s
            if KEEP_ALIVES[key] == 0 and key not in self.pinned():
                self.order.remove(key)

    @rule(group=GROUPS, scratch=st.integers(0, 40), broken=st.sampled_from([*SIZES, *"xxxxxx"]))
    def acquire(self, group: list[str], scratch: int, broken: str) -> None:
        self.loader.broken = {broken}
        missing = [key for key in group if key not in self.order]
        needed = sum(SIZES[key] for key in missing) + scratch
        possible = sum(SIZES[key] for key in group) + scratch <= BUDGET_BYTES
        fits = possible and self.model_room(needed, set(group))
        try:
            lease = self.table.acquire(requests(group), scratch, timeout_s=0)
        except WeightsError:
            assert fits
            assert broken in missing
            loaded = missing[: missing.index(broken)]
            self.model_use(group)
            self.order = [k for k in self.order if k in loaded or k not in missing]
            self.model_release([key for key in group if key in self.order])
        except TimeoutError:
            assert possible
            assert not fits
            assert self.held
        except BudgetExceeded:
            assert not fits
            assert not (possible and self.held)
        else:
            assert fits
            assert broken not in missing
            assert set(missing) == lease.cold
            self.model_use(group)
            self.held.append((lease, group, scratch))

    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        if self.held:
            lease, group, _ = self.held.pop(which % len(self.held))
            lease.release()
            self.model_release(group)

    @rule(key=st.sampled_from(sorted(SIZES)))
    def evict(self, key: str) -> None:
        expected = key in self.order and key not in self.pinned()
        assert expected == self.table.evict(key)
        if expected:
            self.order.remove(key)

    @rule(advance_s=st.integers(0, 4))
    def evict_idle(self, advance_s: int) -> None:
        self.clock.now_s += advance_s
        due_s = self.table.evict_idle(self.clock.now_s)
        expected = None
        if "c" in self.order and "c" not in self.pinned():
            expected = self.released_at_s["c"] + 3
            if expected <= self.clock.now_s:
                self.order.remove("c")
                expected = None
        assert expected == due_s

    @rule(bytes_=st.integers(0, 50))
    def charge(self, bytes_: int) -> None:
        fits = self.model_room(bytes_, set())
        try:
            self.table.charge(bytes_)
        except BudgetExceeded:
            assert not fits
        else:
            assert fits
            self.charged += bytes_

    @rule(share=st.floats(0, 1))
    def refund(self, share: float) -> None:
        bytes_ = int(self.charged * share)
        self.table.refund(bytes_)
        self.charged -= bytes_

    @invariant()
    def the_table_is_what_the_model_says(self) -> None:
        self.table.check_integrity()
        stats = self.table.stats()
        assert tuple(self.order) == stats.resident
        assert self.used() == stats.used_bytes <= BUDGET_BYTES
        assert sum(SIZES[key] for key in self.order) == self.loader.held_bytes
        assert sum(SIZES[key] for key in self.pinned()) == stats.pinned_bytes
        assert stats.loads == len(self.loader.loaded) == stats.evictions + len(self.order)

    def teardown(self) -> None:
        for lease, _, _ in self.held:
            lease.release()
        self.table.refund(self.charged)
        for key in SIZES:
            self.table.evict(key)
        assert 0 == self.table.stats().used_bytes == self.loader.held_bytes


TestSlotHistories = SlotHistories.TestCase
TestSlotHistories.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


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
