"""Many calls at once: order, bounds, laziness, errors in their places."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import FuseboxError, InvalidInput, QueueFull
from deploy.client import aio_mapping, mapping

# what a call does: settle at once, after others, or fail
plans = st.lists(st.sampled_from(["quick", "slow", "wrong"]), max_size=12)


class Watched:
    """Calls that are counted while they run; the slow ones wait until others have come."""

    def __init__(self, plan: list[str]) -> None:
        self.plan = plan
        self.now = self.most = self.taken = self.ended = 0
        self.lock = threading.Lock()

    def items(self) -> Iterator[int]:
        """The numbers of the calls."""
        for number in range(len(self.plan)):
            self.taken += 1
            yield number

    async def items_later(self) -> AsyncIterator[int]:
        """The same, each a moment later."""
        for number in self.items():
            await asyncio.sleep(0)
            yield number

    def begin(self) -> None:
        """A call begins."""
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def end(self, number: int) -> int:
        """It ends with ten times its number, or fails."""
        with self.lock:
            self.now -= 1
            self.ended += 1
        if self.plan[number] == "wrong":
            raise QueueFull(str(number))
        return 10 * number

    def call(self, number: int) -> int:
        """By threads."""
        self.begin()
        if self.plan[number] == "slow":
            threading.Event().wait(0.002)
        return self.end(number)

    async def call_later(self, number: int) -> int:
        """By tasks."""
        self.begin()
        await asyncio.sleep(0.001 if self.plan[number] == "slow" else 0)
        return self.end(number)

    def check(self, found: list[int | FuseboxError], concurrency: int, ordered: bool) -> None:
        """Every item has its answer, in order where that was asked for."""
        told = [int(one.detail) * 10 if isinstance(one, FuseboxError) else one for one in found]
        expected = [10 * number for number in range(len(self.plan))]
        assert expected == (told if ordered else sorted(told))
        wrong = [one for one in found if isinstance(one, FuseboxError)]
        assert len(wrong) == self.plan.count("wrong")
        assert self.most <= concurrency


@settings(max_examples=25)
@given(plans, st.integers(1, 4), st.booleans())
def test_threads_answer_every_item(plan: list[str], concurrency: int, ordered: bool) -> None:
    """And take no more items than may be under way."""
    watched = Watched(plan)
    found = []
    for one in mapping.map_calls(watched.call, watched.items(), concurrency, ordered):
        found.append(one)
        assert watched.taken - len(found) < concurrency
    watched.check(found, concurrency, ordered)


@settings(max_examples=25)
@given(plans, st.integers(1, 4), st.booleans())
def test_tasks_answer_every_item(plan: list[str], concurrency: int, ordered: bool) -> None:
    """As threads do."""
    watched = Watched(plan)

    async def run() -> list[int | FuseboxError]:
        found: list[int | FuseboxError] = []
        calls = aio_mapping.map_calls(
            watched.call_later, watched.items_later(), concurrency, ordered
        )
        async for one in calls:
            found.append(one)
            assert watched.taken - len(found) <= concurrency
        return found

    watched.check(asyncio.run(run()), concurrency, ordered)


def test_calls_are_really_made_at_once() -> None:
    """As many as asked for: each waits for all the others."""
    barrier = threading.Barrier(4, timeout=10)
    calls = mapping.map_calls(lambda _: barrier.wait(), range(8), 4, True)
    assert len(list(calls)) == 8


def test_the_first_error_ends_it_in_its_place() -> None:
    """What came before is given; what was under way ends, and nothing else is begun."""
    watched = Watched(["slow", "wrong", "quick", "quick", "quick", "quick"])
    found = mapping.raising(mapping.map_calls(watched.call, watched.items(), 2, True))
    assert next(found) == 0
    with pytest.raises(QueueFull):
        next(found)
    assert watched.now == 0
    assert watched.ended == watched.taken <= 3


def test_whoever_stops_early_leaves_nothing_under_way() -> None:
    """Neither threads nor tasks."""
    watched = Watched(["slow"] * 9)
    with closing(mapping.map_calls(watched.call, watched.items(), 3, False)) as found:
        next(found)
    assert watched.now == 0
    assert watched.taken <= 4

    async def run() -> int:
        stuck = asyncio.Event()

        async def call(number: int) -> int:
            if number:
                await stuck.wait()
            return number

        async with aclosing(aio_mapping.map_calls(call, items(), 3, True)) as calls:
            assert await anext(calls) == 0
        return len(asyncio.all_tasks())

    async def items() -> AsyncIterator[int]:
        for number in range(9):
            yield number

    assert asyncio.run(run()) == 1


def test_an_item_that_is_long_in_coming_holds_up_no_answer() -> None:
    """Of a source such as a queue."""

    async def run() -> list[int]:
        more = asyncio.Event()

        async def items() -> AsyncIterator[int]:
            yield 1
            await more.wait()
            yield 2

        async def call(number: int) -> int:
            return number

        found = []
        async for one in aio_mapping.map_calls(call, items(), 8, True):
            assert isinstance(one, int)
            found.append(one)
            more.set()
        return found

    assert asyncio.run(asyncio.wait_for(run(), 10)) == [1, 2]


def test_what_the_items_raise_ends_it() -> None:
    """It is the caller's own."""

    def items() -> Iterator[int]:
        yield 1
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(mapping.map_calls(str, items(), 2, True))


@pytest.mark.parametrize("concurrency", [0, -1, 257])
def test_a_number_that_is_none_of_calls_is_refused(concurrency: int) -> None:
    """At once, and by name."""
    with pytest.raises(InvalidInput, match="concurrency: expected 1 to 256"):
        mapping.check_concurrency(concurrency)
