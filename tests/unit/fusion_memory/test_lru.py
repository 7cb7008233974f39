"""One suite for everything that is LRU by bytes with pins: the policy, the DAG cache, the slots."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.cache import DagCache
from fusion.errors import BudgetExceeded
from fusion.lru import ByteLru
from fusion.slots import SlotTable
from tests.unit.fusion_memory.fakes import FakeClock, FakeLoader, request

BUDGET_BYTES = 100


class Entry(NamedTuple):
    bytes: int


class Subject(Protocol):
    """What the suite asks of a cache under test."""

    def hold(self, key: str, bytes_: int) -> AbstractContextManager[None]: ...

    def resident(self) -> tuple[str, ...]: ...

    def used_bytes(self) -> int: ...

    def evictions(self) -> int: ...

    def check_integrity(self) -> None: ...


class Policy:
    """ByteLru with the few lines that every user of it adds: room is made, then taken."""

    def __init__(self) -> None:
        self.lru: ByteLru[str, None] = ByteLru()
        self.evicted = 0

    @contextmanager
    def hold(self, key: str, bytes_: int) -> Iterator[None]:
        if key not in self.lru:
            shortage = self.lru.bytes + bytes_ - BUDGET_BYTES
            victims = self.lru.victims(shortage)
            if shortage > 0 and not victims:
                raise BudgetExceeded(bytes_, BUDGET_BYTES)
            for victim in victims:
                self.lru.pop(victim)
                self.evicted += 1
            self.lru.put(key, None, bytes_)
        self.lru.touch(key)
        self.lru.pin(key)
        try:
            yield
        finally:
            self.lru.unpin(key)
            self.lru.touch(key)

    def resident(self) -> tuple[str, ...]:
        return tuple(self.lru)

    def used_bytes(self) -> int:
        return self.lru.bytes

    def evictions(self) -> int:
        return self.evicted

    def check_integrity(self) -> None:
        self.lru.check_integrity()


class Dags:
    """The DAG cache."""

    def __init__(self) -> None:
        self.cache: DagCache[str, Entry] = DagCache(BUDGET_BYTES)

    @contextmanager
    def hold(self, key: str, bytes_: int) -> Iterator[None]:
        with self.cache.get(key, lambda: Entry(bytes_)):
            yield

    def resident(self) -> tuple[str, ...]:
        return self.cache.keys()

    def used_bytes(self) -> int:
        return self.cache.stats().bytes

    def evictions(self) -> int:
        return self.cache.stats().evictions

    def check_integrity(self) -> None:
        self.cache.check_integrity()


class Slots:
    """The slot table, refusing where it would wait."""

    def __init__(self) -> None:
        # time stands still: what has just come in is no exception from LRU
        self.table = SlotTable(FakeLoader(BUDGET_BYTES), BUDGET_BYTES, FakeClock())

    @contextmanager
    def hold(self, key: str, bytes_: int) -> Iterator[None]:
        try:
            lease = self.table.acquire([request(key, bytes_)], timeout_s=0)
        except TimeoutError as error:
            raise BudgetExceeded(bytes_, BUDGET_BYTES) from error
        with lease:
            yield

    def resident(self) -> tuple[str, ...]:
        return self.table.stats().resident

    def used_bytes(self) -> int:
        return self.table.stats().used_bytes

    def evictions(self) -> int:
        return self.table.stats().evictions

    def check_integrity(self) -> None:
        self.table.check_integrity()


SUBJECTS: list[Callable[[], Subject]] = [Policy, Dags, Slots]
every_subject = pytest.mark.parametrize("make", SUBJECTS)


def use(subject: Subject, key: str, bytes_: int) -> None:
    with subject.hold(key, bytes_):
        subject.check_integrity()


@every_subject
def test_the_least_recently_used_goes_first(make: Callable[[], Subject]) -> None:
    """And no more than is needed."""
    subject = make()
    for key in "abc":
        use(subject, key, 30)
    use(subject, "a", 30)
    use(subject, "d", 30)
    assert subject.resident() == ("c", "a", "d")
    assert (subject.used_bytes(), subject.evictions()) == (90, 1)


@every_subject
def test_as_many_go_as_bytes_are_needed(make: Callable[[], Subject]) -> None:
    """Several small ones for a large one."""
    subject = make()
    for key in "abcd":
        use(subject, key, 25)
    use(subject, "e", 51)
    assert subject.resident() == ("d", "e")


@every_subject
def test_what_is_held_stays(make: Callable[[], Subject]) -> None:
    """The next oldest goes instead."""
    subject = make()
    with subject.hold("a", 40):
        use(subject, "b", 40)
        use(subject, "c", 40)
        assert subject.resident() == ("a", "c")


@every_subject
def test_who_finds_no_room_is_refused_and_changes_nothing(make: Callable[[], Subject]) -> None:
    """Neither the held nor the idle pay for a refusal."""
    subject = make()
    with subject.hold("a", 60):
        use(subject, "b", 30)
        with pytest.raises(BudgetExceeded), subject.hold("c", 50):
            pass
        assert subject.resident() == ("a", "b")
        subject.check_integrity()


@every_subject
def test_what_is_larger_than_the_budget_is_refused(make: Callable[[], Subject]) -> None:
    """Exactly the budget is accepted."""
    subject = make()
    with pytest.raises(BudgetExceeded), subject.hold("a", 101):
        pass
    use(subject, "a", 100)
    assert subject.used_bytes() == 100


@every_subject
def test_two_holders_both_have_to_let_go(make: Callable[[], Subject]) -> None:
    """Pins are counted."""
    subject = make()
    with subject.hold("a", 60):
        with subject.hold("a", 60):
            pass
        with pytest.raises(BudgetExceeded), subject.hold("b", 60):
            pass
    use(subject, "b", 60)
    assert subject.resident() == ("b",)


SIZES = {"a": 10, "b": 25, "c": 30, "d": 45, "e": 80}
HISTORIES = st.lists(
    st.tuples(st.sampled_from(sorted(SIZES)), st.none() | st.sampled_from(sorted(SIZES))),
    max_size=40,
)


@given(history=HISTORIES)
def test_all_decide_alike(history: list[tuple[str, str | None]]) -> None:
    """One history of uses, some while another key is held, gives one outcome everywhere."""
    outcomes = []
    for make in SUBJECTS:
        subject, seen = make(), []
        for key, meanwhile in history:
            with subject.hold(key, SIZES[key]):
                if meanwhile is not None:
                    try:
                        use(subject, meanwhile, SIZES[meanwhile])
                    except BudgetExceeded:
                        seen.append(("refused",))
            subject.check_integrity()
            assert subject.used_bytes() <= BUDGET_BYTES
            seen.append(subject.resident())
        outcomes.append((seen, subject.used_bytes(), subject.evictions()))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_an_integrity_check_finds_a_wrong_total() -> None:
    """It says both figures."""
    lru: ByteLru[str, None] = ByteLru()
    lru.put("a", None, 5)
    lru._bytes += 1
    with pytest.raises(AssertionError, match="5 bytes, accounted 6"):
        lru.check_integrity()
