"""What the scheduler publishes of itself and of how functions are served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import e

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.store.scheduling import DECISION_BOUNDS_S, Answers
from contract.utility import Served, utility
from workers.scheduling.measures import WINDOW_S, DecisionTimes, Measures, Window


def test_utility_is_the_logarithm_of_throughput_over_relative_latency() -> None:
    """BCEdge's: 20 answers in 10 s, a tenth of a second each, of an SLO of 0.05 s times e."""
    served = Served(10.0, 20, 5, 2.0)
    assert (served.throughput_per_s, served.goodput_per_s, served.mean_latency_s) == (2, 1.5, 0.1)
    assert utility(served, 0.05 * e) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("served", "slo_s"), [(Served(10.0, 0, 0, 0.0), 1.0), (Served(10.0, 1, 0, 0.1), None)]
)
def test_without_answers_or_an_slo_there_is_no_utility(served: Served, slo_s: float | None) -> None:
    """It would be minus infinity, or of nothing."""
    assert utility(served, slo_s) is None


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=50))
def test_decision_times_are_counted_once_each(seconds: list[float]) -> None:
    """In the bucket of their length; quantiles are of what was seen."""
    times = DecisionTimes("laxity")
    for one in seconds:
        times.note(one, 2)
    now = times.now()
    assert (now.policy, now.calls, now.dispatches) == ("laxity", len(seconds), 2 * len(seconds))
    assert now.seconds == pytest.approx(sum(seconds))
    for k, bound in enumerate(DECISION_BOUNDS_S):
        assert sum(now.buckets[: k + 1]) == sum(one <= bound for one in seconds)
    assert now.p50_s in seconds
    assert now.p99_s in seconds
    assert now.p50_s <= now.p99_s


def test_before_the_first_decision_there_are_no_quantiles() -> None:
    """Zero would be a lie."""
    assert DecisionTimes("fifo").now()[-2:] == (None, None)


def test_a_window_has_what_was_answered_in_it() -> None:
    """What was answered before it has slid out; a function that rests is not in it any more."""
    window = Window()
    window.note(0.0, {"a": Answers(10, 1, 5.0), "b": Answers(1, 0, 1.0)})
    window.note(WINDOW_S, {"a": Answers(30, 3, 7.0), "b": Answers(2, 0, 2.0)})
    assert window.served() == {"a": Served(WINDOW_S, 20, 2, 2.0), "b": Served(WINDOW_S, 1, 0, 1.0)}
    window.note(2 * WINDOW_S, {"a": Answers(31, 3, 8.0)})
    assert window.served() == {"a": Served(WINDOW_S, 1, 0, 1.0)}


def test_a_function_counts_from_when_it_is_first_seen() -> None:
    """What it had answered ever was not answered just now; nor where it was deployed anew."""
    window = Window()
    window.note(0.0, {})
    window.note(1.0, {"a": Answers(1000, 0, 9.0)})
    assert window.served() == {}
    window.note(2.0, {"a": Answers(1002, 1, 10.0)})
    assert window.served() == {"a": Served(2.0, 2, 1, 1.0)}
    window.note(3.0, {"a": Answers(1, 0, 1.0)})
    assert window.served() == {}
    window.forget(["a"])
    assert window.names == set()


def test_only_functions_that_may_have_answered_are_asked_for() -> None:
    """And nothing more often than once a second."""
    asked: list[set[str]] = []

    def read(names: Iterable[str]) -> Mapping[str, Answers]:
        asked.append(set(names))
        return {name: Answers(len(asked), 0, 0.0) for name in asked[-1]}

    measures = Measures("laxity")
    assert measures.now({"": 3, "a": 3}, read, 100.0) is not None
    assert measures.now({"": 4, "a": 4}, read, 100.5) is None
    now = measures.now({"": 5, "a": 3, "b": 2}, read, 101.0)
    assert now is not None
    assert (asked, now.served) == ([{"a"}, {"a", "b"}], {"a": Served(1.0, 1, 0, 0.0)})
    measures.now({"": 5, "a": 3, "b": 2}, read, 100.0 + WINDOW_S)
    assert asked[-1] == {"b"}
    measures.now({"": 0}, read, 112.0)
    assert asked[-1] == set()
