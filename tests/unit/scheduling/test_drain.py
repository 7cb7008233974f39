"""The measured drain rate: only what was seen while jobs waited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.scheduling.drain import MIN_JOBS, WINDOW_S, Drain


def rates(*history: tuple[float, int, float | None]) -> dict[str, float]:
    """The rates after a history of (time, settled ever, waiting since)."""
    drain, found = Drain(), dict[str, float]()
    for now_s, settled, since_s in history:
        waiting = {} if since_s is None else {"f": since_s}
        found = drain.rates(now_s, {"f": settled}, waiting)
    return found


def test_the_rate_is_what_settled_while_jobs_waited() -> None:
    """Per second, over the time between the samples."""
    assert rates((10, 0, 10), (11, 20, 10), (12, 40, 10)) == {"f": 20.0}


def test_what_settled_while_nothing_waited_is_no_rate() -> None:
    """It says how many jobs came, not how many could have been run."""
    assert rates((10, 0, None), (11, 20, None), (12, 40, None)) == {}
    assert rates((10, 0, None), (11, 20, None), (12, 40, 11.5)) == {}


def test_the_time_before_the_first_job_settled_does_not_count() -> None:
    """Weights may have been on their way."""
    assert rates((10, 0, 10), (12, 0, 10), (13, 30, 10), (14, 60, 10)) == {"f": 30.0}


def test_a_few_jobs_are_no_rate() -> None:
    """Nothing is refused because of chance."""
    assert rates((10, 0, 10), (12, MIN_JOBS - 1, 10)) == {}
    assert rates((10, 0, 10), (12, MIN_JOBS, 10)) == {"f": MIN_JOBS / 2}


def test_a_rate_forgets() -> None:
    """Only the last seconds count."""
    history = [(float(second), 100 * min(second, 10), 0.0) for second in range(10)]
    history += [(float(second), 900 + 10 * (second - 9), 0.0) for second in range(10, 20)]
    assert rates(*history)["f"] == pytest.approx(10.0)


@given(st.lists(st.tuples(st.floats(0.1, 2.0), st.integers(0, 50)), min_size=1, max_size=20))
def test_no_rate_is_higher_than_what_was_seen(steps: list[tuple[float, int]]) -> None:
    """Of any two samples."""
    now_s, settled, history = 0.0, 0, [(0.0, 0, 0.0)]
    for step_s, jobs in steps:
        now_s, settled = now_s + step_s, settled + jobs
        history.append((now_s, settled, 0.0))
    recent = [sample for sample in history if sample[0] >= now_s - WINDOW_S]
    for rate in rates(*history).values():
        assert (
            rate
            <= max(
                (after[1] - before[1]) / (after[0] - before[0])
                for i, before in enumerate(recent)
                for after in recent[i + 1 :]
            )
            + 1e-6
        )
