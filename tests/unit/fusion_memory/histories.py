"""Any history of uses, evictions and failures of slots, against a model of LRU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fusion.errors import BudgetExceeded, WeightsError
from fusion.history import SETTLE_S
from fusion.slots import Lease, SlotRequest, SlotTable
from tests.unit.fusion_memory.fakes import FakeClock, FakeLoader

HISTORIES = settings(max_examples=100, stateful_step_count=40, deadline=None)


@dataclass(frozen=True)
class Functions:
    """What the histories are of."""

    # seconds by function; None keeps it until there is no room
    keep_alives: Mapping[str, float | None]
    requests: Callable[[list[str]], list[SlotRequest]]
    # that these take together
    bytes_of: Callable[[Iterable[str]], int]
    loader: Callable[[int], FakeLoader]
    budget_bytes: int


def histories(of: Functions) -> type[RuleBasedStateMachine]:  # noqa: C901  # one class
    """A state machine for these functions."""
    groups = st.lists(st.sampled_from(sorted(of.keep_alives)), unique=True, max_size=4)

    class Histories(RuleBasedStateMachine):
        """The model: keys in order of use, the groups that hold them, and charged bytes.

        What came in for a group that then failed settles: others leave before it, for a second.
        """

        def __init__(self) -> None:
            super().__init__()
            self.clock = FakeClock()
            self.loader = of.loader(of.budget_bytes)
            self.table = SlotTable(self.loader, of.budget_bytes, self.clock)
            self.order: list[str] = []
            self.held: list[tuple[Lease, list[str], int]] = []
            self.released_at_s: dict[str, float] = {}
            self.charged = 0
            # when they came in
            self.unused: dict[str, float] = {}

        def pinned(self) -> set[str]:
            return {key for _, group, _ in self.held for key in group}

        def used(self, keys: list[str]) -> int:
            return of.bytes_of(keys) + sum(scratch for _, _, scratch in self.held) + self.charged

        def model_room(self, bytes_: int, group: list[str]) -> bool:
            """The oldest leave until it fits, if that suffices; those that settle last."""
            kept = [*self.order]
            missing = [key for key in group if key not in kept]
            for key in sorted(self.order, key=self.settles):
                if self.used(kept + missing) + bytes_ <= of.budget_bytes:
                    break
                if key not in {*group} | self.pinned():
                    kept.remove(key)
            if self.used(kept + missing) + bytes_ > of.budget_bytes:
                return False
            self.order = kept
            return True

        def settles(self, key: str) -> bool:
            return self.clock.now_s - self.unused.get(key, -inf) < SETTLE_S

        def model_use(self, group: list[str]) -> None:
            self.order = [key for key in self.order if key not in group] + group

        def model_release(self, group: list[str]) -> None:
            self.model_use(group)
            for key in group:
                self.released_at_s[key] = self.clock.now_s
                if of.keep_alives[key] == 0 and key not in self.pinned():
                    self.order.remove(key)

        @rule(
            group=groups,
            scratch=st.integers(0, of.budget_bytes // 3),
            broken=st.sampled_from([*of.keep_alives, *"xxxxxx"]),
        )
        def acquire(self, group: list[str], scratch: int, broken: str) -> None:
            self.loader.broken = {broken}
            missing = [key for key in group if key not in self.order]
            possible = of.bytes_of(group) + scratch <= of.budget_bytes
            fits = possible and self.model_room(scratch, group)
            try:
                lease = self.table.acquire(of.requests(group), scratch, timeout_s=0)
            except WeightsError:
                assert fits
                assert broken in missing
                loaded = missing[: missing.index(broken)]
                self.model_release([key for key in group if key in self.order or key in loaded])
                self.unused |= dict.fromkeys(loaded, self.clock.now_s)
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
                self.unused |= dict.fromkeys(missing, self.clock.now_s)
                self.held.append((lease, group, scratch))

        @rule(which=st.integers(0, 9))
        def release(self, which: int) -> None:
            if self.held:
                lease, group, _ = self.held.pop(which % len(self.held))
                lease.release()
                self.model_release(group)
                for key in group:
                    self.unused.pop(key, None)

        @rule(key=st.sampled_from(sorted(of.keep_alives)))
        def evict(self, key: str) -> None:
            expected = key in self.order and key not in self.pinned()
            assert expected == self.table.evict(key)
            if expected:
                self.order.remove(key)

        @rule(advance_s=st.integers(0, 4))
        def evict_idle(self, advance_s: int) -> None:
            self.clock.now_s += advance_s
            next_s = self.table.evict_idle(self.clock.now_s)
            timed = {key: kept_s for key, kept_s in of.keep_alives.items() if kept_s}
            idle = {*self.order} & {*timed} - self.pinned()
            due_s = {key: self.released_at_s[key] + timed[key] for key in idle}
            self.order = [k for k in self.order if due_s.get(k, inf) > self.clock.now_s]
            left_s = [at_s for at_s in due_s.values() if at_s > self.clock.now_s]
            assert min(left_s, default=None) == next_s

        @rule(bytes_=st.integers(0, of.budget_bytes // 2))
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
            assert self.used(self.order) == stats.used_bytes <= of.budget_bytes
            assert of.bytes_of(self.order) == stats.resident_bytes == self.loader.held_bytes
            assert of.bytes_of([*self.pinned()]) == stats.pinned_bytes
            assert stats.leaving_bytes == 0
            assert stats.loads == len(self.loader.loaded) == stats.evictions + len(self.order)

        def teardown(self) -> None:
            for lease, _, _ in self.held:
                lease.release()
            self.table.refund(self.charged)
            for key in of.keep_alives:
                self.table.evict(key)
            assert 0 == self.table.stats().used_bytes == self.loader.held_bytes

    return Histories
