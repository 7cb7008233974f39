"""`fusebox load` and `unload`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from deploy.errors import WaitTimeout
from deploy.verb import Terminal, complete_function, verb

if TYPE_CHECKING:
    from deploy.client import Record

_wait = click.option(
    "--wait", "wait_s", type=click.FloatRange(0), help="Seconds to wait for it; 30 without."
)


@verb("load")
@click.argument("name", shell_complete=complete_function)
@_wait
def load(terminal: Terminal, name: str, wait_s: float | None) -> None:
    """Bring the weights of NAME, or NAME@3, into every worker, and keep them until `unload`."""
    with terminal.client() as client:
        record = client.admin.load(name, wait_s)
    _show(terminal, record)


@verb("unload")
@click.argument("name", shell_complete=complete_function)
@_wait
def unload(terminal: Terminal, name: str, wait_s: float | None) -> None:
    """Take the weights of NAME, or NAME@3, out of every worker; the next call brings them back."""
    with terminal.client() as client:
        record = client.admin.unload(name, wait_s)
    _show(terminal, record)


def _show(terminal: Terminal, record: Record) -> None:
    ref = f"{record['name']}@{record['version']}"
    if record["state"] in ("loading", "unloading"):
        raise WaitTimeout(f"{ref} is still {record['state']}; workers go on with it", **record)
    terminal.show(record, lambda: f"{ref} {record['state']}")
