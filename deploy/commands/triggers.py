"""`fusebox triggers create|list|pause|resume|rm|test`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from contract.errors import InvalidInput, MalformedBody
from deploy.verb import Terminal, complete_function, verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deploy.client import Record

# options of `create`, by the kind that they are for, as the API calls them
_OF_KINDS: dict[str, dict[str, str]] = {
    "cron": {"cron": "schedule", "timezone": "timezone", "missed": "missed", "data": "data"},
    "stream": {"stream": "key", "first": "from", "batch": "batch"},
    "watch": {
        "watch": "url",
        "pattern": "pattern",
        "every_s": "every_s",
        "settle_s": "settle_s",
        "existing": "existing",
    },
    "event": {"filters": "filters"},
}
_DIALECTS = ("exact", "prefix", "suffix")


@click.group("triggers")
def triggers() -> None:
    """Call functions at times, for entries of a stream, new files and CloudEvents."""


@verb("create")
@click.argument("name")
@click.argument("function", shell_complete=complete_function)
@click.option("--cron", metavar="SCHEDULE", help="At times, such as '*/5 * * * *'.")
@click.option("--stream", metavar="KEY", help="For the entries of a stream of the store.")
@click.option("--watch", metavar="URL", help="For new files in a folder (FUSEBOX_WATCH).")
@click.option("--event", "is_event", is_flag=True, help="For CloudEvents, those of --filter.")
@click.option("--input", "expression", metavar="JMESPATH", help="From the event to the input.")
@click.option("--priority", type=click.IntRange(0, 9), help="Of its jobs; higher goes first.")
@click.option(
    "--on-bad-input",
    type=click.Choice(["stop", "skip"]),
    help="What it does at an event that the function does not take; by default it stops there.",
)
@click.option("--timezone", metavar="ZONE", help="Of the schedule, such as Europe/Berlin.")
@click.option(
    "--missed",
    type=click.Choice(["skip", "one", "all"]),
    help="Which ticks are made up for that passed while nothing ran; by default none.",
)
@click.option("--data", metavar="JSON", help="What every tick carries: the input.")
@click.option(
    "--from",
    "first",
    type=click.Choice(["new", "start"]),
    help="Only new entries, by default, or the stream from its start.",
)
@click.option("--batch", type=int, help="Entries under way at once, by default 100.")
@click.option("--pattern", metavar="GLOB", help="Of names of files, by default *.")
@click.option("--every-s", type=float, help="Seconds between two looks, by default 2.")
@click.option("--settle-s", type=float, help="Seconds a file must not change, by default 1.")
@click.option(
    "--existing",
    type=click.Choice(["skip", "all"]),
    help="Whether files that are there already count; by default they do not.",
)
@click.option(
    "--filter",
    "conditions",
    multiple=True,
    metavar="[DIALECT:]NAME=TEXT",
    help="An attribute that events must have: type=a.b, prefix:source=/x; repeatable.",
)
def create(terminal: Terminal, name: str, function: str, **options: Any) -> None:
    """Make a trigger that calls FUNCTION."""
    record = wanted(name, function, options)
    with terminal.client() as client:
        made = client.admin.create_trigger(record)
    terminal.show(made, lambda: _summary(made))


@verb("list")
def list_triggers(terminal: Terminal) -> None:
    """List the triggers and how they fare."""
    with terminal.client() as client:
        records = client.admin.triggers()
    terminal.show({"triggers": records}, lambda: _table(records))


@verb("pause")
@click.argument("name")
def pause(terminal: Terminal, name: str) -> None:
    """Pause a trigger; ticks and events of the pause are not made up for."""
    with terminal.client() as client:
        record = client.admin.pause_trigger(name)
    terminal.show(record, lambda: _summary(record))


@verb("resume")
@click.argument("name")
def resume(terminal: Terminal, name: str) -> None:
    """Resume a trigger, or have one that fails try at once."""
    with terminal.client() as client:
        record = client.admin.resume_trigger(name)
    terminal.show(record, lambda: _summary(record))


@verb("rm")
@click.argument("name")
def rm(terminal: Terminal, name: str) -> None:
    """Remove a trigger and its place; jobs that it made run on."""
    with terminal.client() as client:
        record = client.admin.remove_trigger(name)
    terminal.show(record, lambda: f"removed {_summary(record)}")


@verb("test")
@click.argument("name")
@click.option("--data", metavar="JSON", help="The data of an event that is made up.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="A CloudEvent in JSON.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=TEXT",
    help="An attribute of the event that is made up: type, source, subject, ...; repeatable.",
)
def test(
    terminal: Terminal,
    name: str,
    data: str | None,
    path: Path | None,
    attributes: tuple[str, ...],
) -> None:
    """Show what the function would get for an event; nothing runs."""
    event = _event(data, path, attributes)
    with terminal.client() as client:
        record = client.admin.test_trigger(name, event)
    terminal.show(record, lambda: _tried(record))


for _command in (create, list_triggers, pause, resume, rm, test):
    triggers.add_command(_command)


def wanted(name: str, function: str, options: dict[str, Any]) -> Record:
    """What `create` asks for; raises click.UsageError."""
    record: Record = {"name": name, "function": function}
    # a zero is said, a flag that is not set is not
    given = {
        option: value
        for option, value in options.items()
        if value is not None and value is not False and value != ()
    }
    for option, member in (
        ("expression", "input"),
        ("priority", "priority"),
        ("on_bad_input", "on_bad_input"),
    ):
        if option in given:
            record[member] = given.pop(option)
    kinds: list[str] = [kind for kind in ("cron", "stream", "watch") if kind in given]
    kinds += ["event"] if given.pop("is_event", False) else []
    if len(kinds) != 1:
        raise click.UsageError("expected one of --cron, --stream, --watch and --event")
    if "data" in given:
        given["data"] = _json("--data", given["data"])
    if "conditions" in given:
        given["filters"] = [_filter(text) for text in given.pop("conditions")]
    names = _OF_KINDS[kinds[0]]
    if foreign := sorted(given.keys() - names.keys()):
        raise click.UsageError(f"{foreign[0]}: not an option of a trigger of kind {kinds[0]}")
    record[kinds[0]] = {names[option]: value for option, value in given.items()}
    return record


def _filter(text: str) -> dict[str, dict[str, str]]:
    """`type=a.b` or `prefix:source=/x`, as the CloudEvents Subscriptions API writes it."""
    name, equals, value = text.partition("=")
    dialect, colon, rest = name.partition(":")
    if not colon:
        dialect, rest = "exact", name
    if not equals or not value or not rest or dialect not in _DIALECTS:
        expected = "--filter: expected NAME=TEXT, with exact:, prefix: or suffix: before it"
        raise click.UsageError(f"{expected}, got {text!r}")
    return {dialect: {rest: value}}


def _event(data: str | None, path: Path | None, attributes: tuple[str, ...]) -> Record | None:
    """The event to try out; None where nothing was said of it."""
    if path is not None:
        try:
            event = _json(str(path), path.read_text())
        except OSError as error:
            raise MalformedBody(f"{path}: {error.strerror}") from error
        if not isinstance(event, dict):
            raise InvalidInput.of(str(path), "an event, an object", type(event).__name__)
        return event
    if data is None and not attributes:
        return None
    made: Record = {"specversion": "1.0", "id": "test", "source": "/test", "type": "test"}
    for text in attributes:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--attribute: expected NAME=TEXT, got {text!r}")
        made[name] = value
    return made if data is None else made | {"data": _json("--data", data)}


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise MalformedBody(f"{where}: expected JSON, got an error: {error}") from error


def _summary(record: Record) -> str:
    """`nightly (cron) calls score: active, next 2026-01-02T03:00:00.000Z`."""
    words = f"{record['name']} ({record['kind']}) calls {record['function']}: {record['state']}"
    if record.get("next_at"):
        words += f", next {record['next_at']}"
    return words + (f", {record['error']['detail']}" if record["error"] else "")


def _tried(record: Record) -> str:
    payload = json.dumps(record["payload"]) if "payload" in record else record["payload_base64"]
    verdict = "" if record["is_match"] else "the filters do not let this event through\n"
    head = f"{record['function']}@{record['version']}, {record['rows']} rows"
    return f"{verdict}{head}, {record['content_type']}:\n{payload}"


def _table(records: list[Record]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("NAME", "KIND", "FUNCTION", "STATE", "FIRED", "SKIPPED", "LAST", "ERROR"):
        table.add_column(title, no_wrap=title != "ERROR")
    for record in records:
        table.add_row(
            record["name"],
            record["kind"],
            record["function"],
            record["state"],
            str(record["fired"]),
            str(record["skipped"]),
            record["last_at"] or "-",
            record["error"]["detail"] if record["error"] else "-",
        )
    return table
