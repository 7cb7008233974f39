"""`fusebox top`: the platform, live."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import click

from deploy.verb import Terminal, verb

if TYPE_CHECKING:
    from deploy.client import Client
    from deploy.top_view import Moment, View

# Rates over one second jump; over ten they follow what a person does.
WINDOW_S = 10.0


@verb("top")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    help="Seconds between refreshes.",
)
@click.option(
    "--count", "refreshes", type=click.IntRange(1), help="End after so many; else with Ctrl-C."
)
@click.option(
    "--memory",
    "is_of_memory",
    is_flag=True,
    help="Per function its tier, bytes, loads, evictions, age at eviction and thrash.",
)
def top(terminal: Terminal, interval_s: float, refreshes: int | None, is_of_memory: bool) -> None:
    """Watch functions and workers live: tiers, bytes, queues, rates, latencies, evictions.

    Rates and latencies are those of the last ten seconds. With --json, one line per refresh.
    """
    with terminal.client() as client:
        views = _views(client, interval_s, refreshes)
        if terminal.is_json:
            for seen in views:
                terminal.line(seen.as_json())
        else:
            _show(views, client.url, is_of_memory)


def _show(views: Iterator[View], url: str, is_of_memory: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from deploy.top_screen import screen

    console = Console(markup=False)
    # the alternate screen gives the terminal back as it was; a pipe gets the last refresh
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        for seen in views:
            live.update(screen(seen, url, is_of_memory), refresh=True)


def _views(client: Client, interval_s: float, refreshes: int | None) -> Iterator[View]:
    from deploy.top_view import view

    moments: deque[Moment] = deque([_moment(client)])
    for number in count(1):
        time.sleep(interval_s)  # the refresh rate is the point
        moments.append(_moment(client))
        while len(moments) > 2 and _age_s(moments[1], moments[-1]) >= WINDOW_S:
            moments.popleft()
        yield view(moments[0], moments[-1])
        if number == refreshes:
            return


def _moment(client: Client) -> Moment:
    from deploy.top_view import Moment

    return Moment(client.stats(), client.workers())


def _age_s(then: Moment, now: Moment) -> float:
    age_s: float = now.stats["at_s"] - then.stats["at_s"]
    return age_s
