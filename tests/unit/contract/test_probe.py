"""What runs took at deploy, as a header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import RequestError
from contract.probe import MOST_MS, MOST_PROBES, MOST_ROWS, format_probe, parse_probe

PROBES = st.dictionaries(
    st.integers(1, MOST_ROWS), st.floats(0, MOST_MS), min_size=1, max_size=MOST_PROBES
)


@given(PROBES)
def test_a_probe_survives_the_header(probe: dict[int, float]) -> None:
    """To a nanosecond."""
    found = parse_probe(format_probe(probe))
    assert found == pytest.approx(probe, abs=1e-6)


def test_no_header_is_no_probe() -> None:
    """Artifacts may come from whoever measures nothing."""
    assert parse_probe("") == {}


@pytest.mark.parametrize("header", ["x", "1=", "0=1", "1=-1", "1=nan", "1=1,1=2", "1=9999999", ","])
def test_a_bad_header_is_named(header: str) -> None:
    """With what was expected and what came."""
    with pytest.raises(RequestError, match=r"Fusebox-Compute-Ms: expected .*, got"):
        parse_probe(header)
