"""What all verbs have in common: --json, --url, --debug, and one place where errors end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from contract.errors import FuseboxError, InvalidInput
from deploy.errors import INTERRUPTED, exit_code
from deploy.options import DEFAULT_URL

PIPE_COLUMNS = 160
F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from deploy.client import Client


class Terminal:
    """Where a verb writes: results to standard output, all else to standard error."""

    def __init__(self, url: str, is_json: bool) -> None:
        self.url = url
        self.is_json = is_json

    def client(self, *, is_patient: bool = False) -> Client:
        """A client of the chosen gateway; people see at once what is wrong, and try again."""
        from deploy.client import NEVER, Client, Retries

        return Client(self.url, retries=Retries() if is_patient else NEVER)

    @property
    def errors(self) -> Console:
        """Standard error, for people."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, markup=False)

    def show(self, record: Any, for_people: Callable[[], RenderableType]) -> None:
        """A result, as one line of JSON or as people read it."""
        if self.is_json:
            self.line(record)
            return
        from rich.console import Console

        # a pipe has no width, and what a script or a pager gets should not be cut at 80 columns
        width = None if sys.stdout.isatty() else PIPE_COLUMNS
        # without markup: the shape [rows, 4] is no style
        Console(highlight=False, markup=False, width=width).print(for_people())

    def line(self, record: Any) -> None:
        """One line of JSON."""
        click.echo(json.dumps(record))

    def fail(self, error: FuseboxError) -> None:
        """An error, in the form that results have."""
        if self.is_json:
            self.line({"error": error.encode()})
        else:
            click.echo(f"fusebox: {error.detail}", err=True)


def verb(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command whose function takes a Terminal first; its FuseboxErrors become exit codes."""

    def decorate(body: Callable[..., None]) -> click.Command:
        def run(url: str, is_json: bool, debug: bool, **options: Any) -> None:
            terminal = Terminal(url, is_json)
            try:
                body(terminal, **options)
            except FuseboxError as error:
                if debug:
                    raise
                terminal.fail(error)
                sys.exit(exit_code(error))
            except KeyboardInterrupt:
                sys.exit(INTERRUPTED)

        run.__doc__ = body.__doc__
        run.__click_params__ = getattr(body, "__click_params__", [])  # type: ignore[attr-defined]  # click keeps options there
        command = click.command(name, cls=click.Command)(run)
        command.params += _common()
        return command

    return decorate


def _common() -> list[click.Parameter]:
    return [
        click.Option(
            ["--json", "is_json"], is_flag=True, help="Write JSON: one object, or one a line."
        ),
        click.Option(
            ["--url"],
            envvar="FUSEBOX_URL",
            default=DEFAULT_URL,
            show_default=True,
            help="The gateway to ask (FUSEBOX_URL).",
        ),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
    ]


def destination_option(name: str, what: str) -> Callable[[F], F]:
    """An option that names destinations."""
    return click.option(
        name,
        multiple=True,
        metavar="DESTINATION",
        callback=_destinations,
        help=f"Tell https://..., function:NAME or stream:events:KEY of {what}; repeatable.",
    )


def _destinations(
    _context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    """What is none is refused before a model is exported for it."""
    if not texts:
        return ()  # most calls name none, and need not import NumPy by way of it
    from contract.destinations import parse_all

    try:
        return tuple(found.text for found in parse_all(texts, parameter.opts[0]))
    except InvalidInput as error:
        expected, actual = error.extensions["expected"], error.extensions["actual"]
        raise click.BadParameter(f"expected {expected}, got {actual}") from error


def complete_function(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Names of deployed functions, for the shell's completion; none where nothing answers."""
    from deploy.client import NEVER, Client

    url = context.params.get("url") or DEFAULT_URL
    try:
        with Client(url, retries=NEVER) as client:
            names = [function["name"] for function in client.functions()]
    except FuseboxError:
        return []  # a shell must not show a traceback between two keystrokes
    return [name for name in names if name.startswith(incomplete)]
