"""`fusebox ls`, `describe`, `logs` and `rm`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from deploy.verb import Terminal, complete_function, verb

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.client import Record

FOLLOW_S = 1.0
MAX_LINES = 1000


@verb("ls")
def ls(terminal: Terminal) -> None:
    """List the deployed functions."""
    with terminal.client() as client:
        functions = client.functions()
    terminal.show({"functions": functions}, lambda: _list(functions))


@verb("describe")
@click.argument("name", shell_complete=complete_function)
def describe(terminal: Terminal, name: str) -> None:
    """Show one function: NAME, NAME@3 for a version, NAME@prod for an alias."""
    with terminal.client() as client:
        function = client.function(name)
    terminal.show(function, lambda: _description(function))


@verb("rm")
@click.argument("name", shell_complete=complete_function)
def rm(terminal: Terminal, name: str) -> None:
    """Take a function, or one version NAME@3, out of service. Accepted jobs still run."""
    with terminal.client() as client:
        removed = client.remove(name)
    versions = ", ".join(str(version) for version in removed["removed_versions"])
    terminal.show(removed, lambda: f"removed {removed['name']}, versions {versions}")


@verb("logs")
@click.argument("name", shell_complete=complete_function)
@click.option(
    "--count", type=click.IntRange(1, MAX_LINES), default=100, show_default=True, help="Lines."
)
@click.option("--since", "since_s", type=float, help="Only lines of the last so many seconds.")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C.")
def logs(terminal: Terminal, name: str, count: int, since_s: float | None, follow: bool) -> None:
    """Show what a function's own code printed and raised, oldest first."""
    after_s = 0.0 if since_s is None else max(0.0, time.time() - since_s)
    shown: set[tuple[Any, ...]] = set()
    with terminal.client() as client:
        while True:
            lines = client.logs(name, count, after_s)
            news = [line for line in lines if tuple(line.values()) not in shown]
            for line in news:
                _print_line(terminal, line)
            if not follow:
                return
            # the next question begins at the last line's moment, which several lines may share
            shown = {tuple(line.values()) for line in lines} or shown
            after_s = max([after_s, *(_unix_s(line["at"]) for line in lines)])
            count = MAX_LINES
            time.sleep(FOLLOW_S)  # the API has no stream of lines


def _print_line(terminal: Terminal, line: Record) -> None:
    if terminal.is_json:
        terminal.line(line)
        return
    at = datetime.fromtimestamp(_unix_s(line["at"])).astimezone().strftime("%H:%M:%S.%f")[:-3]
    job = f" job {line['job']}" if line["job"] else ""
    head = click.style(f"{at} @{line['version']}{job}", dim=True)
    text = click.style(line["text"], fg="red") if line["level"] == "error" else line["text"]
    click.echo(f"{head} {text}")


def _unix_s(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _list(functions: list[Record]) -> Table | str:
    from rich.table import Table

    from deploy.render import human_bytes, human_ms, human_specs

    if not functions:
        return "no functions; deploy one with `fusebox deploy PATH`"
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("NAME", "VERSION", "ALIASES", "TIER", "WEIGHTS", "SLO", "INPUTS"):
        table.add_column(heading, justify="right" if heading in ("VERSION", "WEIGHTS") else "left")
    for function in functions:
        table.add_row(
            function["name"],
            str(function["version"]),
            aliases_text(function.get("aliases", {})),
            function["tier"],
            human_bytes(function["weight_bytes"]),
            human_ms(function["slo_ms"]),
            human_specs(function["inputs"]),
        )
    return table


def _description(function: Record) -> Table:
    from deploy.render import human_bytes, human_ms, human_specs, pairs

    hooks = [hook for hook in ("preprocess", "postprocess") if function[f"has_{hook}"]]
    keep_alive_s = function["keep_alive_s"]
    rows = [
        ("name", f"{function['name']}@{function['version']}"),
        ("versions", ", ".join(map(str, function["versions"]))),
        ("aliases", aliases_text(function.get("aliases", {}))),
        ("created", function["created_at"]),
        ("tier", function["tier"]),
        ("inputs", human_specs(function["inputs"])),
        ("outputs", human_specs(function["outputs"])),
        ("hooks", ", ".join(hooks) or "none"),
        ("parameters", f"{function['parameters']:,}"),
        ("weights", human_bytes(function["weight_bytes"])),
        ("activations", _activations(function["activation_bytes"])),
        *_runs(function),
        ("joins other jobs", "yes" if function["is_batchable"] else "no"),
        ("slo", human_ms(function["slo_ms"])),
        ("timeout", human_ms(function["timeout_ms"])),
        ("keep alive", "default" if keep_alive_s is None else f"{keep_alive_s:g} s"),
        *_blocks(function),
        *_execution(function["execution"]),
        ("architecture", function["architecture"]),
        ("digest", function["digest"]),
    ]
    return pairs(rows)


def aliases_text(aliases: Mapping[str, Mapping[str, int]]) -> str:
    """`prod=3:90,4:10`, one a line, as `fusebox alias` takes them; a dash for none."""
    return "\n".join(f"{name}={_target(versions)}" for name, versions in aliases.items()) or "-"


def _target(versions: Mapping[str, int]) -> str:
    if len(versions) == 1:
        return next(iter(versions))
    return ",".join(f"{version}:{weight}" for version, weight in versions.items())


def _runs(function: Record) -> list[tuple[str, str]]:
    """As a graph or as it is, and with how many rows."""
    if function["is_eager"]:
        first = ("runs", "eagerly, in a process of its own; never fused with other functions")
    else:
        operators = f"{function['operators']} ({function['operators_exported']} exported)"
        first = ("operators", operators)
    buckets = ", ".join(map(str, function["row_buckets"]))
    rows = f"{function['max_batch']} rows"
    if buckets:
        rows += f"; graphs of {buckets}"
    ceiling = function["execution"]["row_ceiling"]
    if ceiling is not None:
        rows += f"; joined up to {ceiling}, for more ran out of memory"
    return [first, ("max batch", rows)]


def _execution(execution: Record) -> list[tuple[str, str]]:
    """Which tier and strategy run, and their measured gains."""
    rows = [
        (f"code at {count} row{'s' if int(count) > 1 else ''}", fastest(measured, "generated"))
        for count, measured in execution["tiers"].items()
        if measured
    ]
    rows += [
        (f"with {name}", fastest(group["measured_ms"], "serial", group["strategy"]))
        for name, group in execution["groups"].items()
    ]
    return rows


def _blocks(function: Record) -> list[tuple[str, str]]:
    """The plan of a worker, or that one is to come."""
    from deploy.render import human_bytes

    if "blocks" in function["execution"]:
        return block_rows(function["execution"]["blocks"])
    if "blocks_budget_bytes" not in function:
        return []
    room = human_bytes(function["blocks_budget_bytes"])
    return [("blocks", f"within {room}; a worker is about to plan them")]


def block_rows(plan: Record) -> list[tuple[str, str]]:
    """How it runs where it does not fit: blocks, the ring they share, what stays."""
    from deploy.render import human_bytes

    sizes = [size for size in plan["block_bytes"] if size]
    each = f" of {human_bytes(min(sizes))} to {human_bytes(max(sizes))}" if sizes else ""
    ring, resident = human_bytes(plan["ring_bytes"]), human_bytes(plan["resident_bytes"])
    return [
        ("blocks", f"{len(plan['block_bytes'])}{each}; {human_bytes(sum(sizes))} read in each run"),
        ("block memory", f"ring {ring}, resident part {resident}"),
        ("block times", "measured" if plan["is_measured"] else "estimated until it has run"),
    ]


def fastest(measured_ms: dict[str, float], default: str, chosen: str | None = None) -> str:
    """The chosen way, or the fastest, and how many times as fast as the default it is.

    Where the default is chosen, what the others took.
    """
    chosen = chosen or min(measured_ms, key=measured_ms.__getitem__)
    if chosen not in measured_ms:
        return f"{chosen}, not measured"
    text = f"{chosen}, {measured_ms[chosen]:.3g} ms"
    if chosen == default or default not in measured_ms:
        others = [f"{way} {ms:.3g} ms" for way, ms in measured_ms.items() if way != chosen]
        return "; ".join([text, *others])
    return f"{text}: {measured_ms[default] / measured_ms[chosen]:.2f} times as fast as {default}"


def _activations(by_rows: dict[str, int]) -> str:
    from deploy.render import human_bytes

    return ", ".join(f"{human_bytes(size)} at rows {rows}" for rows, size in by_rows.items())
