"""The stages of a job as spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.job import TIMINGS
from workers.spans import stages

PARTS = [name for name in TIMINGS if name != "total"]


@given(
    st.floats(1e9, 2e9),
    st.dictionaries(st.sampled_from(PARTS), st.just(0.0) | st.floats(0.001, 1e6)),
)
def test_stages_fill_the_job_one_after_another(
    accepted_at_s: float, timings_ms: dict[str, float]
) -> None:
    """From its acceptance, each as long as it was measured; others are left out."""
    found = stages(accepted_at_s, timings_ms | {"total": sum(timings_ms.values())})
    assert [stage.name for stage in found] == [n for n in PARTS if timings_ms.get(n, 0.0)]
    at_s = accepted_at_s
    for stage in found:
        assert stage.start_s == at_s
        assert stage.end_s - stage.start_s == pytest.approx(timings_ms[stage.name] / 1000, abs=1e-5)
        at_s = stage.end_s


def test_a_job_that_never_ran_has_no_stages() -> None:
    """As one that expired before its run."""
    assert stages(1e9, {}) == []
