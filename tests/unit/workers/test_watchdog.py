"""What the watchdog makes of what it sees; all times are played."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from contract.errors import StoreUnavailable
from contract.job import Claim, JobId
from workers.claims import Claims
from workers.watchdog import Actions, Look, Watch, Watchdog

NONE: frozenset[str] = frozenset()


def look(
    turns: int = 0,
    begun: int = 0,
    given: Iterable[str] = (),
    held: Iterable[str] = (),
    overdue: Iterable[str] = (),
) -> Look:
    """A look, all well unless something else is said."""
    return Look(turns, begun, frozenset(given), frozenset(held), frozenset(overdue))


def findings(looks: Sequence[Look], patience_s: float = 3.0) -> list[str]:
    """What a watch finds that looks once a second."""
    watch = Watch(patience_s)
    return [watch.see(one, 1.0) for one in looks]


def test_a_loop_that_stands_still_is_a_fault_after_the_patience() -> None:
    """Not a second earlier."""
    assert findings([look(turns=7)] * 5) == ["", "", "", "", "loop_stands_still"]


def test_a_loop_that_turns_now_and_then_is_no_fault() -> None:
    """Every turn begins the time anew."""
    found = findings([look(turns=n // 3) for n in range(30)])
    assert found == [""] * 30


def test_a_group_that_is_not_begun_is_a_fault() -> None:
    """The loop turns and beats, yet takes nothing from its queue."""
    found = findings([look(turns=n, given=["g"]) for n in range(4)])
    assert found == ["", "", "", "group_not_begun g"]


def test_a_group_that_is_passed_by_others_is_no_fault() -> None:
    """The worker takes from its queue, so it is not what has to be mended."""
    looks = [look(turns=n, begun=n // 3, given=["g"]) for n in range(30)]
    assert findings(looks) == [""] * 30


def test_a_group_that_does_not_end_is_a_fault() -> None:
    """Its jobs have gone back to the queue long ago; the device is blocked."""
    looks = [look(turns=n, given=["g"], held=["g"], overdue=["g"]) for n in range(4)]
    assert findings(looks)[2:] == ["", "group_does_not_end g"]


@given(st.lists(st.tuples(st.integers(0, 2), st.sets(st.sampled_from("abc"))), max_size=40))
def test_nothing_is_a_fault_before_it_was_wrong_for_the_patience(
    events: list[tuple[int, set[str]]],
) -> None:
    """Whatever is seen: a fault in the last look was wrong in each of the last four."""
    turns, looks = 0, []
    for step, given_ in events:
        turns += step
        looks.append(look(turns=turns, given=given_))
    for end, fault in enumerate(findings(looks)):
        recent = looks[max(0, end - 3) : end + 1]
        if fault == "loop_stands_still":
            assert {one.turns for one in recent} == {looks[end].turns}
        elif fault:
            group = fault.split()[1]
            assert [group in one.given for one in recent] == [True] * 4


class Worker:
    """A worker whose watchdog is real; what it does is told."""

    def __init__(self, draining_s: float | None = None, is_store_away: bool = False) -> None:
        self.told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.looks: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_store_away = is_store_away
        self.watchdog = Watchdog(
            Actions(
                self._look, self.told.put, lambda _within_s: None,
                lambda: self.told.put("rests"), lambda: draining_s,
            ),
            patience_s=0.05,
            drain_s=0.05,
        )  # fmt: skip

    def _look(self) -> Look:
        self.looks.put(None)
        if self._is_store_away:
            raise StoreUnavailable
        return look()


def test_the_watchdog_ends_a_worker_whose_loop_stands_still() -> None:
    """From a thread of its own."""
    worker = Worker()
    worker.watchdog.start()
    assert worker.told.get(timeout=30) == "loop_stands_still"
    worker.watchdog.stop()


def test_a_drain_has_its_own_limit() -> None:
    """What stands still meanwhile is of no interest."""
    worker = Worker(draining_s=0.06)
    worker.watchdog.start()
    assert worker.told.get(timeout=30) == "drain_incomplete"
    worker.watchdog.stop()


def test_while_the_store_is_away_nothing_is_a_fault() -> None:
    """A loop that waits for the store waits rightly."""
    worker = Worker(is_store_away=True)
    worker.watchdog.start()
    for _ in range(20):
        worker.looks.get(timeout=30)
    worker.watchdog.stop()
    assert worker.told.get(timeout=30) == "rests"
    assert worker.told.empty()


def test_a_group_is_overdue_when_it_renews_none_of_its_leases() -> None:
    """One job with time left keeps it."""
    claims, now_s = Claims(), time.time()
    short, long = Claim(JobId("a"), 1), Claim(JobId("b"), 1)
    claims.begin("g", now_s + 1)
    assert claims.under_way(now_s) == (1, {"g"}, NONE)
    claims.hold("g", short, now_s + 1)
    claims.hold("g", long, now_s + 9)
    assert claims.under_way(now_s + 5) == (1, {"g"}, NONE)
    assert claims.under_way(now_s + 10) == (1, {"g"}, {"g"})
    claims.end("g")
    assert claims.under_way(now_s + 10) == (1, NONE, NONE)
