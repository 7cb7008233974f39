"""Whom a group waits for."""

from __future__ import annotations

from concurrent.futures import Future

from contract.function import FunctionRef
from workers.paces import PATIENCE_S, Paces

QUICK, SLOW = FunctionRef("quick", 1), FunctionRef("slow", 1)


def ended(value: str) -> Future[str]:
    """Work that is through."""
    future: Future[str] = Future()
    future.set_result(value)
    return future


def test_a_group_goes_on_without_what_takes_too_long() -> None:
    """What is through is given, the rest stays a future."""
    hangs: Future[str] = Future()
    split = Paces().split({QUICK: ended("a"), SLOW: hangs})
    assert (split.done, split.behind) == (["a"], {SLOW: hangs})


def test_a_slow_function_that_is_through_already_is_not_left_behind() -> None:
    """Being known as slow only means that nobody waits."""
    paces = Paces()
    paces.note(SLOW, 1.0)
    paces.note(SLOW, 1.0)
    assert paces.is_slow(SLOW)
    assert paces.split({SLOW: ended("b")}).done == ["b"]


def test_trust_comes_back_slowly() -> None:
    """A function that is slow now and then is not waited for in between."""
    paces = Paces()
    assert not paces.is_slow(SLOW)
    # its process was started
    paces.note(SLOW, 60.0)
    assert not paces.is_slow(SLOW)
    paces.note(SLOW, 30.0)
    for _ in range(10):
        paces.note(SLOW, 0.001)
    assert paces.is_slow(SLOW)
    for _ in range(60):
        paces.note(SLOW, 0.001)
    assert not paces.is_slow(SLOW)
    paces.note(QUICK, PATIENCE_S / 2)
    assert not paces.is_slow(QUICK)
