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
# a device rarely begins more in a second
GROUPS = 1000


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
@click.option(
    "--slo",
    "is_of_slo",
    is_flag=True,
    help="Per function its SLO, mean latency, goodput, utility, violations, refusals; the policy.",
)
@click.option(
    "--groups",
    "is_of_groups",
    is_flag=True,
    help="The last second of each device, and the newest groups with their predicted times.",
)
def top(
    terminal: Terminal,
    interval_s: float,
    refreshes: int | None,
    is_of_memory: bool,
    is_of_slo: bool,
    is_of_groups: bool,
) -> None:
    """Watch functions and workers live: tiers, bytes, queues, rates, latencies, evictions.

    Rates and latencies are those of the last ten seconds. With --json, one line per refresh.
    """
    if is_of_memory + is_of_slo + is_of_groups > 1:
        raise click.UsageError("--memory, --slo and --groups: choose one")
    lower = "memory" if is_of_memory else "slo" if is_of_slo else "groups"
    lower = lower if is_of_memory or is_of_slo or is_of_groups else "functions"
    with terminal.client() as client:
        views = _views(client, interval_s, refreshes, GROUPS if is_of_groups else 0)
        if terminal.is_json:
            for seen in views:
                terminal.line(seen.as_json())
        else:
            _show(views, client.url, lower)


def _show(views: Iterator[View], url: str, lower: str) -> None:
    from rich.console import Console
    from rich.live import Live

    from deploy.top_screen import screen

    console = Console(markup=False)
    # the alternate screen gives the terminal back as it was; a pipe gets the last refresh
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        for seen in views:
            live.update(screen(seen, url, lower), refresh=True)


def _views(client: Client, interval_s: float, refreshes: int | None, groups: int) -> Iterator[View]:
    from deploy.top_view import view

    moments: deque[Moment] = deque([_moment(client, groups)])
    for number in count(1):
        time.sleep(interval_s)  # the refresh rate is the point
        moments.append(_moment(client, groups))
        while len(moments) > 2 and _age_s(moments[1], moments[-1]) >= WINDOW_S:
            moments.popleft()
        yield view(moments[0], moments[-1])
        if number == refreshes:
            return


def _moment(client: Client, groups: int) -> Moment:
    from deploy.top_view import Moment

    last = client.groups(groups) if groups else ()
    return Moment(client.stats(), client.workers(), last)


def _age_s(then: Moment, now: Moment) -> float:
    age_s: float = now.stats["at_s"] - then.stats["at_s"]
    return age_s
