"""`fusebox triggers create`: what its options ask for."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from deploy.commands.triggers import wanted


def create(*words: str) -> Result:
    """Run the verb where no gateway answers."""
    environ = {"FUSEBOX_URL": "http://127.0.0.1:1"}
    return CliRunner().invoke(main, ["triggers", "create", "a", "f", *words], env=environ)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cron": "@daily", "data": "[1]"}, {"cron": {"schedule": "@daily", "data": [1]}}),
        (
            {"stream": "s", "first": "start", "priority": 3},
            {"stream": {"key": "s", "from": "start"}, "priority": 3},
        ),
        (
            {"watch": "/in", "settle_s": 0.0, "expression": "data"},
            {"watch": {"url": "/in", "settle_s": 0.0}, "input": "data"},
        ),
        (
            {"is_event": True, "conditions": ("type=a=b", "prefix:source=/x")},
            {"event": {"filters": [{"exact": {"type": "a=b"}}, {"prefix": {"source": "/x"}}]}},
        ),
        ({"is_event": True, "conditions": ()}, {"event": {}}),
    ],
)
def test_options_become_members_of_their_kind(
    options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """What was not said is left to the platform, and a zero is said."""
    assert wanted("a", "f", options) == {"name": "a", "function": "f"} | expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected one of --cron"),
        (("--cron", "@daily", "--event"), "expected one of --cron"),
        (("--cron", "@daily", "--batch", "3"), "batch: not an option of a trigger of kind cron"),
        (("--event", "--filter", "like:type=x"), "--filter: expected NAME=TEXT"),
        (("--event", "--filter", "type"), "--filter: expected NAME=TEXT"),
        (("--cron", "@daily", "--data", "{"), "--data: expected JSON"),
    ],
)
def test_wrong_usage_is_told_without_asking_the_platform(
    words: tuple[str, ...], message: str
) -> None:
    """With the exit code of usage."""
    done = create(*words)
    assert (done.exit_code, message in done.output) == (2, True), done.output


def test_a_platform_that_does_not_answer_is_told() -> None:
    """As with every verb."""
    assert create("--event").exit_code == 4
