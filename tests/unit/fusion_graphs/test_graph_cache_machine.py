"""The cache of captured graphs against a model: any history of captures, uses and evictions."""

from contextlib import ExitStack

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fusion.errors import BudgetExceeded
from fusion.graphs.cache import GraphCache

BUDGET_BYTES = 100
DEVICE_BYTES = 90
SIZES = {"a": 10, "b": 20, "c": 30, "d": 45}
MEMBERS = st.sampled_from(sorted(SIZES))
GROUPS = st.lists(MEMBERS, min_size=2, max_size=3, unique=True).map(lambda k: tuple(sorted(k)))
Key = str | tuple[str, ...]


class Entry:
    """Bytes that are held until they are given back, once."""

    def __init__(self, bytes_: int, log: list["Entry"]) -> None:
        self.bytes = bytes_
        self.is_closed = False
        self._log = log

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True
        self._log.append(self)


class GraphHistories(RuleBasedStateMachine):
    """The model: keys in order of use, who uses them, and what the device is charged."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[Entry] = []
        self.charged = 0
        self.cache: GraphCache[Key, Entry] = GraphCache(BUDGET_BYTES, self.charge, self.refund)
        self.entries: dict[Key, Entry] = {}
        self.order: list[Key] = []
        self.uses: list[tuple[Key, ExitStack]] = []

    def charge(self, bytes_: int) -> None:
        """As the slot table: what does not fit is asked back from the cache first."""
        if self.charged + bytes_ > DEVICE_BYTES:
            self.cache.shrink(self.charged + bytes_ - DEVICE_BYTES)
        if self.charged + bytes_ > DEVICE_BYTES:
            raise BudgetExceeded(bytes_, DEVICE_BYTES - self.charged)
        self.charged += bytes_

    def refund(self, bytes_: int) -> None:
        assert 0 <= bytes_ <= self.charged
        self.charged -= bytes_

    def needs(self, key: Key) -> tuple[str, ...]:
        return key if isinstance(key, tuple) else ()

    def used(self) -> set[Key]:
        return {each for key, _ in self.uses for each in (key, *self.needs(key))}

    def touch(self, key: Key) -> None:
        for each in (*self.needs(key), key):
            if each in self.order:
                self.order.remove(each)
            self.order.append(each)

    def drop_closed(self) -> None:
        """What was closed has left, together with whatever needed it."""
        self.order = [key for key in self.order if not self.entries[key].is_closed]
        for key in self.order:
            assert all(each in self.order for each in self.needs(key))

    @rule(key=MEMBERS)
    def capture_member(self, key: str) -> None:
        if key not in self.order:
            self.put(key, SIZES[key])

    @rule(key=GROUPS, bytes_=st.integers(0, 30))
    def capture_group(self, key: tuple[str, ...], bytes_: int) -> None:
        if key in self.order or any(each not in self.order for each in key):
            return
        with ExitStack() as stack:
            for each in key:
                stack.enter_context(self.cache.using(each))
            self.uses.append((key, stack))
            self.put(key, bytes_, key)
            self.uses.pop()
        for each in key:
            self.order.remove(each)
            self.order.append(each)

    def put(self, key: Key, bytes_: int, needs: tuple[str, ...] = ()) -> None:
        entry = Entry(bytes_, self.closed)
        try:
            self.cache.put(key, entry, needs)
        except BudgetExceeded:
            assert not entry.is_closed
            assert key not in self.cache
            # all that nobody uses would not have done, or it left for nothing
            kept = sum(self.entries[k].bytes for k in self.used() & {*self.order})
            assert kept + bytes_ > min(BUDGET_BYTES, DEVICE_BYTES)
            self.drop_closed()
            return
        self.entries[key] = entry
        self.drop_closed()
        self.order.append(key)

    @rule(key=MEMBERS | GROUPS)
    def use(self, key: Key) -> None:
        stack = ExitStack()
        entry = stack.enter_context(self.cache.using(key))
        if key in self.order:
            assert entry is self.entries[key]
            assert not entry.is_closed
            self.uses.append((key, stack))
        else:
            assert entry is None
            stack.close()

    @precondition(lambda self: self.uses)
    @rule(data=st.data())
    def end_use(self, data: st.DataObject) -> None:
        key, stack = self.uses.pop(data.draw(st.integers(0, len(self.uses) - 1)))
        stack.close()
        self.touch(key)

    @rule(bytes_=st.integers(0, 120))
    def shrink(self, bytes_: int) -> None:
        free = [key for key in self.order if key not in self.used()]
        wanted = min(bytes_, sum(self.entries[key].bytes for key in free))
        before = len(self.closed)
        freed = self.cache.shrink(bytes_)
        assert freed == sum(entry.bytes for entry in self.closed[before:])
        assert freed >= wanted
        self.drop_closed()

    @invariant()
    def nothing_in_use_is_closed(self) -> None:
        assert not any(self.entries[key].is_closed for key in self.used())

    @invariant()
    def accounts_agree(self) -> None:
        self.cache.check_integrity()
        held = sum(self.entries[key].bytes for key in self.order)
        assert held == self.cache.stats().bytes == self.charged
        assert len(self.order) == self.cache.stats().entries


TestGraphHistories = GraphHistories.TestCase
TestGraphHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_least_recently_used_leaves_first() -> None:
    """With the groups that need it, which are closed before it."""
    closed: list[Entry] = []
    cache: GraphCache[Key, Entry] = GraphCache(BUDGET_BYTES)
    entries = {key: Entry(20, closed) for key in ("a", "b", "c")}
    for key, entry in entries.items():
        cache.put(key, entry)
    group = Entry(5, closed)
    with cache.using("a"), cache.using("b"):
        cache.put(("a", "b"), group, ("a", "b"))
    with cache.using("b"):
        pass
    # c is the oldest, then a
    assert cache.shrink(1) == 20
    assert [entries["c"]] == closed
    assert cache.shrink(6) == 25
    assert [entries["c"], group, entries["a"]] == closed
    assert "b" in cache
