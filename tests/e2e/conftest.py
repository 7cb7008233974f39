"""One platform of real processes for the tests that only call it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench._platform import Platform, running_platform

FUNCTIONS = Path(__file__).parent / "functions"


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with the functions of this folder deployed."""
    watched = tmp_path_factory.mktemp("watched")
    with running_platform(
        FUSEBOX_COMPUTE_THREADS="2",
        FUSEBOX_HANDLER_TIMEOUT_S="8",
        FUSEBOX_WATCH=str(watched),
        FUSEBOX_WEBHOOK_ALLOW="127.0.0.1",
    ) as running:
        for name in ("linear", "linear2", "hooked"):
            running.deploy(str(FUNCTIONS / f"{name}.py"), "--name", name, "--max-batch", "8")
        running.wait_ready()
        yield running
