"""Any bytes are refused with an error of ours, or read into what is written and read equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.run import CORPUS, fuzz_apart
from tests.fuzz.targets import TARGETS

SHORT_S = 1


@pytest.mark.parametrize("path", sorted(CORPUS.rglob("*.*")), ids=lambda path: path.name)
def test_a_seed_or_an_earlier_finding_is_handled(path: Path) -> None:
    """What a run once found, and what runs start from."""
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_seeds() -> None:
    """Without them a run spends its time on finding the first byte."""
    assert sorted(TARGETS) == sorted(path.name for path in CORPUS.iterdir())


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_short_run_finds_nothing(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Longer ones are `make fuzz`; what they find is printed with its bytes."""
    assert fuzz_apart(target, SHORT_S), capsys.readouterr().out
