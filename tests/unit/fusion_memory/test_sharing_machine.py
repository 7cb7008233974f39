"""Functions that share tensors against a model: any history of uses, evictions and failures."""

import random
import threading
from itertools import permutations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fusion.errors import BudgetExceeded, WeightsError
from fusion.sharing import LENT_BYTES
from fusion.slots import Lease, SlotRequest, SlotTable
from tests.unit.fusion_memory.fakes import FakeClock, FakeSharingLoader, made_of

# by content; two of them too small to be shared alone
SIZES = {0: 4 * LENT_BYTES, 1: 2 * LENT_BYTES, 2: LENT_BYTES, 3: LENT_BYTES, 4: 3 * LENT_BYTES}
SIZES |= {5: 2 * LENT_BYTES, 6: 700, 7: 1}
TENSORS = {
    "a": (0, 1), "b": (0, 2), "c": (3, 0, 1), "d": (4, 6), "e": (2, 5, 4), "f": (5, 7), "g": (1, 0)
}  # fmt: skip
SMALL = {6, 7}
KEEP_ALIVES = {"c": 0, "f": 3}
BUDGET_BYTES = 12 * LENT_BYTES
GROUPS = st.lists(st.sampled_from(sorted(TENSORS)), unique=True, max_size=4)


def requests(group: list[str]) -> list[SlotRequest]:
    return [
        made_of(key, {t: SIZES[t] for t in TENSORS[key]}, KEEP_ALIVES.get(key)) for key in group
    ]


def distinct(keys: list[str]) -> int:
    """Bytes of what these functions hold: small tensors each for itself, others once."""
    shared = {t for key in keys for t in TENSORS[key]} - SMALL
    return sum(SIZES[t] for t in shared) + sum(
        SIZES[t] for key in keys for t in TENSORS[key] if t in SMALL
    )


class SharingHistories(RuleBasedStateMachine):
    """The model: keys in order of use, the groups that hold them, and charged bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.loader = FakeSharingLoader(BUDGET_BYTES)
        self.table = SlotTable(self.loader, BUDGET_BYTES, self.clock)
        self.order: list[str] = []
        self.held: list[tuple[Lease, list[str], int]] = []
        self.released_at_s: dict[str, float] = {}
        self.charged = 0

    def pinned(self) -> set[str]:
        return {key for _, group, _ in self.held for key in group}

    def used(self, keys: list[str]) -> int:
        return distinct(keys) + sum(scratch for _, _, scratch in self.held) + self.charged

    def model_room(self, bytes_: int, group: list[str]) -> bool:
        """Plain LRU: the oldest leave until it fits, if that suffices."""
        kept = [*self.order]
        missing = [key for key in group if key not in kept]
        for key in self.order:
            if self.used(kept + missing) + bytes_ <= BUDGET_BYTES:
                break
            if key not in {*group} | self.pinned():
                kept.remove(key)
        if self.used(kept + missing) + bytes_ > BUDGET_BYTES:
            return False
        self.order = kept
        return True

    def model_use(self, group: list[str]) -> None:
        self.order = [key for key in self.order if key not in group] + group

    def model_release(self, group: list[str]) -> None:
        self.model_use(group)
        for key in group:
            self.released_at_s[key] = self.clock.now_s
            if KEEP_ALIVES.get(key) == 0 and key not in self.pinned():
                self.order.remove(key)

    @rule(
        group=GROUPS,
        scratch=st.integers(0, 4 * LENT_BYTES),
        broken=st.sampled_from([*TENSORS, *"xxxxxxx"]),
    )
    def acquire(self, group: list[str], scratch: int, broken: str) -> None:
        self.loader.broken = {broken}
        missing = [key for key in group if key not in self.order]
        possible = distinct(group) + scratch <= BUDGET_BYTES
        fits = possible and self.model_room(scratch, group)
        try:
            lease = self.table.acquire(requests(group), scratch, timeout_s=0)
        except WeightsError:
            assert fits
            assert broken in missing
            loaded = missing[: missing.index(broken)]
            self.model_release([key for key in group if key in self.order or key in loaded])
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

    @rule(key=st.sampled_from(sorted(TENSORS)))
    def evict(self, key: str) -> None:
        expected = key in self.order and key not in self.pinned()
        assert expected == self.table.evict(key)
        if expected:
            self.order.remove(key)

    @rule(advance_s=st.integers(0, 4))
    def evict_idle(self, advance_s: int) -> None:
        self.clock.now_s += advance_s
        self.table.evict_idle(self.clock.now_s)
        is_idle = "f" in self.order and "f" not in self.pinned()
        if is_idle and self.released_at_s["f"] + 3 <= self.clock.now_s:
            self.order.remove("f")

    @rule(bytes_=st.integers(0, 5 * LENT_BYTES))
    def charge(self, bytes_: int) -> None:
        fits = self.model_room(bytes_, [])
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
        assert self.used(self.order) == stats.used_bytes <= BUDGET_BYTES
        assert distinct(self.order) == stats.resident_bytes == self.loader.held_bytes
        assert distinct([*self.pinned()]) == stats.pinned_bytes
        assert stats.leaving_bytes == 0
        assert stats.loads == len(self.loader.loaded) == stats.evictions + len(self.order)

    @invariant()
    def what_is_leased_is_right(self) -> None:
        for lease, group, _ in self.held:
            for key in group:
                assert TENSORS[key] == tuple(int(t) for t in lease.tensors(key))

    def teardown(self) -> None:
        for lease, _, _ in self.held:
            lease.release()
        self.table.refund(self.charged)
        for key in TENSORS:
            self.table.evict(key)
        assert 0 == self.table.stats().used_bytes == self.loader.held_bytes


TestSharingHistories = SharingHistories.TestCase
TestSharingHistories.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_many_threads_share_and_every_tensor_is_right() -> None:
    """Random groups and failures of those that others count on; what was freed would read -1."""
    loader = FakeSharingLoader(BUDGET_BYTES)
    table = SlotTable(loader, BUDGET_BYTES)
    finished: list[int] = []

    def fail_at_times(_: str) -> None:
        if random.random() < 0.2:
            raise MemoryError

    loader.during = fail_at_times
    groups = [[*keys] for count in (1, 2, 3) for keys in permutations(TENSORS, count)]
    fitting = [group for group in groups if distinct(group) + 10 <= BUDGET_BYTES]

    def work(seed: int) -> None:
        chooser = random.Random(seed)
        done = 0
        while done < 60:
            group = chooser.choice(fitting)
            try:
                with table.acquire(requests(group), chooser.randint(0, 10)) as lease:
                    table.check_integrity()
                    for key in group:
                        assert TENSORS[key] == tuple(int(t) for t in lease.tensors(key))
                done += 1
            except MemoryError:
                continue
            table.evict(chooser.choice(sorted(TENSORS)))
        finished.append(seed)

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert list(range(8)) == sorted(finished)
    table.check_integrity()
    stats = table.stats()
    assert (stats.leases, stats.waiting, stats.pinned_bytes) == (0, 0, 0)
    assert stats.resident_bytes == loader.held_bytes == distinct([*stats.resident])
