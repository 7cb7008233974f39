"""`fusebox alias` and `fusebox rollback`: names of versions, made, moved, moved back, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from contract.aliases import parse_alias
from contract.errors import InvalidInput, UnknownAlias
from deploy.commands.functions import aliases_text
from deploy.verb import Terminal, complete_function, verb

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.client import Client, Record


@verb("alias")
@click.argument("name", shell_complete=complete_function)
@click.argument("target", required=False)
@click.option("--rm", "removed", metavar="ALIAS", help="Remove this alias; its versions stay.")
def alias(terminal: Terminal, name: str, target: str | None, removed: str | None) -> None:
    """Name a version: `fusebox alias NAME prod=3`, or several by weight, prod=3:90,4:10.

    Without TARGET, list the aliases of the function.
    """
    if target is not None and removed is not None:
        raise InvalidInput.of("--rm", "no TARGET beside it", repr(target[:100]))
    with terminal.client() as client:
        if removed is not None:
            record = client.admin.remove_alias(name, removed)
            terminal.show(record, lambda: f"removed {_text(record)}")
        elif target is not None:
            wish = parse_alias(target)
            record = client.admin.put_alias(name, wish.name, dict(wish.versions))
            terminal.show(record, lambda: _moved(record))
        else:
            found = client.admin.aliases(name)
            terminal.show({"aliases": found}, lambda: _list(name, found))


@verb("rollback")
@click.argument("name", shell_complete=complete_function)
@click.argument("alias", required=False)
def rollback(terminal: Terminal, name: str, alias: str | None) -> None:
    """Move an alias back to what it pointed at before; ALIAS may be left out where there is one."""
    with terminal.client() as client:
        record = client.admin.roll_back(name, alias or _only(client, name))
    terminal.show(record, lambda: _moved(record))


def _only(client: Client, name: str) -> str:
    names = [found["alias"] for found in client.admin.aliases(name)]
    if not names:
        raise UnknownAlias(f"The function {name} has no alias.", function=name)
    if len(names) > 1:
        raise InvalidInput.of("alias", f"one of {', '.join(names)}", "none")
    only: str = names[0]
    return only


def _text(record: Record) -> str:
    return aliases_text({record["alias"]: record["versions"]})


def _moved(record: Record) -> str:
    was = [aliases_text({record["alias"]: versions}) for versions in record["before"][:1]]
    return f"{record['function']} {_text(record)}" + (f", before {was[0]}" if was else "")


def _list(name: str, found: list[Record]) -> Table | str:
    from rich.table import Table

    if not found:
        return f"no aliases; make one with `fusebox alias {name} prod=VERSION`"
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("ALIAS", "BEFORE"):
        table.add_column(heading)
    for record in found:
        before = (aliases_text({record["alias"]: was}) for was in record["before"])
        table.add_row(_text(record), "  ".join(before) or "-")
    return table
