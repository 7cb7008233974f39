"""What `fusebox top --slo` and `--groups` show: how functions are served, which groups ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.client import Record
from deploy.render import human_ms

if TYPE_CHECKING:
    from deploy.top_view import View

# columns of a timeline
COLUMNS = 60
# seconds that it shows
TIMELINE_S = 1.0
# groups in the list under the timelines
LISTED = 12


@dataclass(frozen=True)
class ServingLine:
    """One function; rates, latency and utility are of the scheduler's last ten seconds."""

    name: str
    version: int
    slo_ms: float | None
    answered_per_s: float | None
    goodput_per_s: float | None
    latency_ms: float | None
    utility: float | None
    # ever: accepted and not answered by their due time; refused, by reason
    violations: int
    refusals: dict[str, int]


@dataclass(frozen=True)
class SchedulingLine:
    """The scheduler, since it leads."""

    policy: str
    decisions: int
    dispatches: int
    decision_p50_ms: float | None
    decision_p99_ms: float | None
    # median of |predicted - measured| / measured of the last groups; None before there were any
    prediction_error: float | None


def serving_line(function: Record) -> ServingLine:
    """One function of GET /v1/stats."""
    return ServingLine(
        name=function["name"],
        version=function["version"],
        slo_ms=function["slo_ms"],
        answered_per_s=function["answered_per_s"],
        goodput_per_s=function["goodput_per_s"],
        latency_ms=function["latency_ms"],
        utility=function["utility"],
        violations=function["violations"],
        refusals=function["refusals"],
    )


def scheduling_line(stats: Record) -> SchedulingLine | None:
    """The scheduler of GET /v1/stats; None while none leads."""
    found = stats["scheduling"]
    error = stats["prediction_error"].get("total")
    return SchedulingLine(**found, prediction_error=error and error["median"]) if found else None


def serving_part(view: View) -> RenderableType:
    """Per function its SLO and what became of it."""
    if not view.serving:
        return Text("no functions are deployed", style="dim")
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("FUNCTION", no_wrap=True)
    for heading in ("SLO", "MEAN", "JOBS/S", "GOOD/S", "UTILITY", "LATE", "REFUSED"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in view.serving:
        table.add_row(f"{line.name}@{line.version}", *_serving_cells(line))
    return Group(_scheduling(view.scheduling), "", table)


def _serving_cells(line: ServingLine) -> list[RenderableType]:
    refused = sum(line.refusals.values())
    return [
        human_ms(line.slo_ms),
        human_ms(line.latency_ms),
        _number(line.answered_per_s, ".1f"),
        _number(line.goodput_per_s, ".1f"),
        _number(line.utility, "+.2f"),
        Text(str(line.violations), "red" if line.violations else ""),
        Text(str(refused), "yellow" if refused else ""),
    ]


def _scheduling(line: SchedulingLine | None) -> Text:
    if line is None:
        return Text("no scheduler leads", style="bold red")
    return Text(
        f"policy {line.policy}   {line.decisions} decisions, {line.dispatches} groups sent\n"
        f"a decision takes {human_ms(line.decision_p50_ms)} "
        f"(p99 {human_ms(line.decision_p99_ms)})   predictions off by "
        f"{_number(line.prediction_error, '.0%')}"
    )


def groups_part(view: View) -> RenderableType:
    """A timeline of each worker's last second on its device, and the newest groups."""
    if not view.groups:
        return Text("no group has run of late", style="dim")
    ended = [group["ended_at_s"] for group in view.groups if group["ended_at_s"]]
    until_s = max(ended, default=view.at_s)
    workers = sorted({group["worker"] for group in view.groups})
    lines = [
        Text(f"{worker:<12} ")
        + timeline([g for g in view.groups if g["worker"] == worker], until_s)
        for worker in workers
    ]
    return Group(f"the last second on each device, {COLUMNS} columns", *lines, "", _list(view))


def timeline(groups: Sequence[Record], until_s: float) -> Text:
    """The second before `until_s`: dark where a group was on the device, two shades by turns."""
    cells = [" "] * COLUMNS
    for k, group in enumerate(reversed(groups)):
        first, last = (
            (group[at] - until_s + TIMELINE_S) / TIMELINE_S * COLUMNS
            for at in ("began_at_s", "ended_at_s")
        )
        if not group["ended_at_s"] or last <= 0:
            continue
        for column in range(max(0, int(first)), min(COLUMNS, max(int(first) + 1, round(last)))):
            cells[column] = "█▓"[k % 2]
    return Text("".join(cells), style="cyan")


def _list(view: View) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    for heading in ("WORKER", "MEMBERS", "STRATEGY"):
        table.add_column(heading, no_wrap=heading != "MEMBERS", overflow="ellipsis")
    for heading in ("JOBS", "PREDICTED", "TOOK"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in view.groups[:LISTED]:
        members = ", ".join(f"{m['function']} x{m['rows']}" for m in group["members"])
        table.add_row(
            group["worker"],
            members or "-",
            ", ".join(group["strategies"]) or "-",
            str(group["jobs"]),
            human_ms(group["predicted_ms"]),
            human_ms(group["measured_ms"]),
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
