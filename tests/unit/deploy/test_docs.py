"""docs/cli.md and docs/functions.md say what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from deploy.cli import main

DOCS = Path(__file__).resolve().parents[3] / "docs"


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every verb with its full name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_verb_and_option_is_documented() -> None:
    """An option stands in the section of its verb, or among those of every verb."""
    sections = dict(re.findall(r"^## `(.+?)`\n(.*?)(?=^## |\Z)", _cli(), re.MULTILINE | re.DOTALL))
    missing = [
        f"{verb} {option}"
        for verb, command in commands(main, "fusebox")
        for option in _options(command)
        if option not in sections.get(verb, "") + _common()
    ]
    assert missing == []
    assert {verb for verb, _ in commands(main, "fusebox")} == set(sections)


def test_every_option_that_is_documented_exists() -> None:
    """An option that was renamed leaves no trace."""
    known = {option for _, command in commands(main, "fusebox") for option in _options(command)}
    written = set(re.findall(r"`(--[a-z-]+)", _cli()))
    assert written <= known


def test_every_exit_code_is_documented() -> None:
    """Scripts rely on them."""
    for code in range(7):
        assert f"| {code} |" in _cli()


def _cli() -> str:
    return (DOCS / "cli.md").read_text()


def _common() -> str:
    return _cli().partition("## `")[0]


def _options(command: click.Command) -> list[str]:
    return [
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    ]
