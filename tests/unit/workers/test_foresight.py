"""Functions larger than the budget are planned before a job of theirs comes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from contract.errors import OutOfMemory, StoreUnavailable
from contract.function import Function, FunctionRef
from tests.unit.workers.conftest import a_function
from workers.foresight import Foresight

BUDGET = 1000


class Deployed:
    """Stands for the store's functions."""

    def __init__(self, *functions: Function) -> None:
        self.functions = {function.ref: function for function in functions}
        self.is_away = False

    def latest(self) -> list[FunctionRef]:
        """All of them."""
        if self.is_away:
            raise StoreUnavailable
        return list(self.functions)

    def get(self, ref: FunctionRef) -> Function:
        """One."""
        return self.functions[ref]


def sized(name: str, weight_bytes: int, version: int = 1, **changes: object) -> Function:
    """A function of so many bytes."""
    return replace(a_function(name, weight_bytes=weight_bytes, **changes), version=version)


def foresight(deployed: Deployed, plan: Any) -> Foresight:
    """That looks whenever it is asked to."""
    return Foresight(deployed, BUDGET, plan, 0.0)  # type: ignore[arg-type]  # what it asks of them


def looked(each: Foresight) -> None:
    """One look, and its plans."""
    each.look()
    each.wait()


def test_what_does_not_fit_is_planned_once_for_each_version() -> None:
    """What fits, and what runs eagerly, is left to its jobs."""
    deployed = Deployed(
        sized("large", 2000), sized("small", 10), sized("eager", 2000, is_eager=True)
    )
    planned: list[Function] = []
    each = foresight(deployed, planned.append)
    looked(each)
    looked(each)
    assert [str(function.ref) for function in planned] == ["large@1"]
    newer = sized("large", 3000, version=2)
    deployed.functions = {newer.ref: newer}
    looked(each)
    assert [str(function.ref) for function in planned] == ["large@1", "large@2"]


def test_a_store_that_is_away_and_a_plan_that_fails_are_no_end() -> None:
    """The next look tells; the next function is planned."""
    deployed = Deployed(sized("a", 2000), sized("b", 2000))
    asked: list[str] = []

    def refuse(function: Function) -> None:
        asked.append(function.name)
        raise OutOfMemory("too large", needed_bytes=2000, budget_bytes=BUDGET)

    each = foresight(deployed, refuse)
    deployed.is_away = True
    looked(each)
    assert asked == []
    deployed.is_away = False
    looked(each)
    assert asked == ["a", "b"]


def test_it_looks_no_more_often_than_it_should() -> None:
    """Each look is a question to the store."""
    now_s = [0.0]
    planned: list[Function] = []
    deployed = Deployed()
    each = Foresight(deployed, BUDGET, planned.append, 2.0, lambda: now_s[0])  # type: ignore[arg-type]  # as above
    looked(each)
    late = sized("late", 2000)
    deployed.functions = {late.ref: late}
    looked(each)
    assert planned == []
    now_s[0] = 2.0
    looked(each)
    assert planned == [late]
