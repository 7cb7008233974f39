"""`fusebox keys create|list|revoke`: over HTTP, or with --local in the store of this host."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from contract.errors import MalformedBody
from deploy.verb import Terminal, verb

if TYPE_CHECKING:
    from rich.table import Table

    from contract.store.access import ApiKeys
    from deploy.client import Record

_SCOPES = ("invoke", "deploy", "admin")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

local_option = click.option(
    "--local",
    "is_local",
    is_flag=True,
    help="Use this host's store (FUSEBOX_DATA, REDIS_URL) and no key: the way to the first one.",
)


@click.group("keys")
def keys() -> None:
    """Make, list and revoke API keys."""


def _seconds(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> float | None:
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text or "")
    if match is None and text is not None:
        raise click.BadParameter(f"expected a time such as 90s, 15m, 12h or 30d, got {text!r}")
    return None if match is None else float(int(match[1]) * _UNITS_S[match[2]])


@verb("create")
@click.argument("name", default="")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("invoke",),
    show_default=True,
    type=click.Choice(_SCOPES),
    help="What it may do; repeatable. admin may do all.",
)
@click.option("--rate", metavar="N/UNIT", help="Requests per second, minute, hour or day.")
@click.option(
    "--expires",
    "expires_in_s",
    metavar="TIME",
    callback=_seconds,
    help="It ends after a time such as 90s, 15m, 12h or 30d; by default never.",
)
@click.option(
    "--aws",
    "is_aws",
    is_flag=True,
    help="Print it as the two lines of an AWS credentials file, for clients of the Lambda API.",
)
@local_option
def create(
    terminal: Terminal,
    name: str,
    scopes: tuple[str, ...],
    rate: str | None,
    expires_in_s: float | None,
    is_aws: bool,
    is_local: bool,
) -> None:
    """Make an API key and print it: it is shown once and kept nowhere."""
    if is_local:
        record = _create_local(name, scopes, rate, expires_in_s)
    else:
        with terminal.client() as client:
            record = client.admin.create_key(name, scopes, rate, expires_in_s)
    if terminal.is_json:
        terminal.line(record)
        return
    click.echo(_as_aws(record) if is_aws else record["key"])
    click.echo(f"{_summary(record)}; revoke it with: fusebox keys revoke {record['id']}", err=True)


@verb("list")
@local_option
def list_keys(terminal: Terminal, is_local: bool) -> None:
    """List the API keys, without their secrets."""
    if is_local:
        with _local_keys() as store:
            records = [key.shown(used_at_s) for key, used_at_s in store.all()]
    else:
        with terminal.client() as client:
            records = client.admin.keys()
    terminal.show({"keys": records}, lambda: _table(records))


@verb("revoke")
@click.argument("key")
@local_option
def revoke(terminal: Terminal, key: str, is_local: bool) -> None:
    """Revoke an API key, named by its id; it is refused within about a second."""
    if key.startswith("fb_"):
        # a whole key, which should not travel further than it has
        key = key.split("_")[1]
    if is_local:
        with _local_keys() as store:
            record = store.revoke(key).shown(None)
    else:
        with terminal.client() as client:
            record = client.admin.revoke_key(key)
    terminal.show(record, lambda: f"revoked {_summary(record)}")


for _command in (create, list_keys, revoke):
    keys.add_command(_command)


@contextmanager
def _local_keys() -> Iterator[ApiKeys]:
    """The keys of this host's store: who can open it owns the platform anyway."""
    from contract.settings import SettingError, read_settings
    from contract.store import open_store

    try:
        settings = read_settings(os.environ)
    except SettingError as error:
        raise MalformedBody(str(error)) from error
    store = open_store(settings.redis_url)
    try:
        yield store.api_keys
    finally:
        store.close()


def _create_local(
    name: str, scopes: tuple[str, ...], rate: str | None, expires_in_s: float | None
) -> Record:
    from contract.access import Wish, mint

    key, token = mint(Wish(name, scopes, rate or "", expires_in_s))
    with _local_keys() as store:
        store.add(key)
    return key.shown(None) | {"key": token.text, "aws_secret_access_key": token.signing_secret}


def _as_aws(record: Record) -> str:
    secret = record["aws_secret_access_key"]
    return f"aws_access_key_id = {record['id']}\naws_secret_access_key = {secret}"


def _summary(record: Record) -> str:
    """`0123456789ab shop (invoke, deploy), 100/minute, until 2026-01-02T03:04:05Z`."""
    words = [f"{record['id']} {record['name']}".rstrip() + f" ({', '.join(record['scopes'])})"]
    if record["rate"]:
        words.append(record["rate"])
    if record["expires_at"]:
        words.append(f"until {record['expires_at']}")
    return ", ".join(words)


def _table(records: list[Record]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("ID", "NAME", "SCOPES", "RATE", "CREATED", "EXPIRES", "LAST USED"):
        table.add_column(title, no_wrap=True)
    for record in records:
        table.add_row(
            record["id"],
            record["name"],
            ", ".join(record["scopes"]),
            record["rate"] or "-",
            record["created_at"],
            record["expires_at"] or "-",
            record["last_used_at"] or "-",
        )
    return table
