"""`fusebox dlq list|show|redrive|purge`: jobs and deliveries that were given up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from deploy.verb import Terminal, verb

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.client import Record


@click.group("dlq")
def dlq() -> None:
    """Show, run again or remove dead letters."""


@verb("list")
@click.option(
    "--count", type=click.IntRange(1, 1000), default=100, show_default=True, help="The newest N."
)
def list_letters(terminal: Terminal, count: int) -> None:
    """List the dead letters, the newest first."""
    with terminal.client() as client:
        record = client.admin.dead_letters(count)
    terminal.show(record, lambda: _table(record))


@verb("show")
@click.argument("letter")
def show(terminal: Terminal, letter: str) -> None:
    """Show a dead letter with its payload."""
    with terminal.client() as client:
        record = client.admin.dead_letter(letter)
    terminal.show(record, lambda: _letter_table(record))


@verb("redrive")
@click.argument("letters", metavar="[LETTER]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="All there are, the newest 1000 at most.")
def redrive(terminal: Terminal, letters: tuple[str, ...], is_all: bool) -> None:
    """Run jobs again, or try deliveries anew; stops at the first that is refused."""
    if bool(letters) == is_all:
        raise click.UsageError("name dead letters, or say --all")
    with terminal.client() as client:
        if is_all:
            letters = tuple(
                record["id"] for record in client.admin.dead_letters(1000)["dead_letters"]
            )
        for letter in letters:
            record = client.admin.redrive(letter)
            terminal.show(record, lambda record=record: f"{record['id']} is job {record['job']}")  # type: ignore[misc]  # mypy infers no lambda with a default


@verb("purge")
@click.argument("letters", metavar="[LETTER]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="All there are.")
def purge(terminal: Terminal, letters: tuple[str, ...], is_all: bool) -> None:
    """Remove dead letters, with their payloads."""
    if bool(letters) == is_all:
        raise click.UsageError("name dead letters, or say --all")
    with terminal.client() as client:
        removed = [client.admin.purge(letter) for letter in letters or (None,)]
    count = sum(record["purged"] for record in removed)
    terminal.show({"purged": count}, lambda: f"purged {count}")


for _command in (list_letters, show, redrive, purge):
    dlq.add_command(_command)


def _table(record: Record) -> Table:
    from rich.table import Table

    letters = record["dead_letters"]
    table = Table(box=None, padding=(0, 2, 0, 0), caption=f"{len(letters)} of {record['count']}")
    for title in ("LETTER", "OF", "FUNCTION", "REASON", "AT", "PAYLOAD"):
        table.add_column(title, no_wrap=True)
    for letter in letters:
        table.add_row(
            letter["id"],
            letter["kind"],
            f"{letter['function']}@{letter['version']}",
            letter["reason"],
            letter["at"],
            str(letter["payload_bytes"]),
        )
    return table


def _letter_table(letter: Record) -> Table:
    from deploy.commands.jobs import delivery_text
    from deploy.render import pairs, shortened

    rows = [
        ("letter", f"{letter['id']}, of a {letter['kind']}"),
        ("reason", letter["reason"]),
        ("at", letter["at"]),
        ("function", f"{letter['function']}@{letter['version']}"),
        ("job", f"{letter['job']}, {letter['status']} after {letter['attempts']} attempts"),
    ]
    if letter["cause"]:
        rows.append(("cause", letter["cause"]))
    if letter["delivery"]:
        rows.append(("delivery", delivery_text(letter["delivery"])))
    if letter["error"]:
        rows.append(("error", f"{letter['error']['code']}: {letter['error']['detail']}"))
    rows.append(("payload", f"{letter['payload_bytes']} bytes of {letter['payload_type']}"))
    record = letter["job_record"]
    rows += [
        (field, json.dumps(shortened(record[field])))
        for field in ("outputs", "result")
        if field in record
    ]
    return pairs(rows)
