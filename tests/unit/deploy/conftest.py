"""A gateway to talk to, the command line to talk with, and handlers to deploy."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from tests.unit.deploy.fake_gateway import FakeGateway, serving

Fusebox = Callable[..., Result]


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    """A fake gateway."""
    with serving() as fake:
        yield fake


@pytest.fixture
def fusebox(gateway: FakeGateway) -> Fusebox:
    """Run `fusebox` with these arguments against the fake gateway."""

    def run(*args: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, args, env={"FUSEBOX_URL": gateway.url}, input=stdin)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file of a user's project and say where it is."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write_file
