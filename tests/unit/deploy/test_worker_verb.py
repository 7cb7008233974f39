"""`fusebox worker` says what it needs before it starts anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from deploy.commands.worker import worker

STORE = ["--store", "redis://127.0.0.1:1"]
ARTIFACTS = ["--artifacts", "s3://bucket"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (ARTIFACTS, "--store: expected a URL here or in REDIS_URL"),
        (STORE, "--artifacts: expected a URL here or in FUSEBOX_ARTIFACTS"),
        ([*STORE, "--artifacts", "bucket"], "FUSEBOX_ARTIFACTS: expected"),
        ([*STORE, *ARTIFACTS, "--workers", "0"], "FUSEBOX_WORKERS: expected at least 1"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_what_is_wrong(words: list[str], named: str) -> None:
    """As everywhere on the command line."""
    cleared = {"REDIS_URL": None, "FUSEBOX_ARTIFACTS": None}
    result = CliRunner().invoke(worker, words, env=cleared)
    assert (result.exit_code, named in result.output) == (2, True), result.output
