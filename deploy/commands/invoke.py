"""`fusebox invoke`: one call, or many with a latency table."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from deploy.errors import FAILED, WaitTimeout
from deploy.verb import Terminal, complete_function, destination_option, verb

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.client import Body, Record
    from deploy.repeat import Summary


@verb("invoke")
@click.argument("name", shell_complete=complete_function)
@click.option("--data", metavar="JSON", help="The payload, as JSON.")
@click.option("--file", metavar="PATH", help="The payload, in a file; - is standard input.")
@click.option(
    "--input", "inputs", metavar="NAME=X.NPY", multiple=True, help="One input tensor; repeatable."
)
@click.option("--content-type", metavar="TYPE", help="Media type; by default that of the suffix.")
@click.option("--async", "is_async", is_flag=True, help="Do not wait: print the accepted job.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), help="Wait at most so many seconds.")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Run once, however often this is sent; what fails on the way is tried again.",
)
@click.option("--explain", "is_explained", is_flag=True, help="Say why it took as long as it did.")
@click.option(
    "--priority",
    type=click.IntRange(0, 9),
    help="Higher goes first, whatever is due; 0 by default.",
)
@click.option(
    "--sticky", metavar="KEY", help="NAME@ALIAS: calls of one key go to the same version."
)
@destination_option("--on-success", "the job if it has a result")
@destination_option("--on-failure", "the job if it ends without one")
@click.option("--repeat", "count", type=click.IntRange(1), help="Call so often, and measure.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1024), default=1, show_default=True, help="At once."
)
def invoke(
    terminal: Terminal,
    name: str,
    data: str | None,
    file: str | None,
    inputs: tuple[str, ...],
    content_type: str | None,
    is_async: bool,
    wait_s: float | None,
    idempotency_key: str | None,
    is_explained: bool,
    priority: int | None,
    sticky: str | None,
    on_success: tuple[str, ...],
    on_failure: tuple[str, ...],
    count: int | None,
    concurrency: int,
) -> None:
    """Call a function: NAME, NAME@3 for a version, NAME@prod for an alias."""
    from deploy.bodies import read_body

    if count is None and concurrency != 1:
        raise click.UsageError("--concurrency needs --repeat")
    if count is not None:
        _check_repeated(
            is_async or wait_s is not None, idempotency_key, sticky, on_success + on_failure
        )
    if is_explained and (is_async or count is not None):
        raise click.UsageError("--explain is of one answer: leave out --async and --repeat")
    if is_async and wait_s is not None:
        raise click.UsageError("--async does not wait: leave out --wait")
    body = read_body(data, file, inputs, content_type)
    if count is not None:
        _invoke_often(terminal, name, body, count, concurrency, priority)
    else:
        from deploy.client import Told

        told = Told(on_success, on_failure)
        with terminal.client(is_patient=idempotency_key is not None) as client:
            wait_s = 0.0 if is_async else wait_s
            record = client.call(name, body, wait_s, idempotency_key, priority, sticky, told)
            if is_explained:
                record["explanation"] = client.record(record["job"])["explanation"]
        _show_record(terminal, record, is_async)


def _check_repeated(
    is_timed: bool, idempotency_key: str | None, sticky: str | None, told: tuple[str, ...]
) -> None:
    """Raise UsageError for options that are of one call."""
    if is_timed:
        raise click.UsageError("--repeat waits for every answer: leave out --async and --wait")
    if idempotency_key is not None:
        raise click.UsageError("--repeat is many calls: leave out --idempotency-key")
    if sticky is not None:
        raise click.UsageError("--sticky is for one call: leave out --repeat")
    if told:
        raise click.UsageError("--repeat measures: leave out --on-success and --on-failure")


def _show_record(terminal: Terminal, record: Record, is_async: bool) -> None:
    if terminal.is_json:
        terminal.line(record)
    elif "status" in record:
        click.echo(record["job"])
        click.echo(
            f"{record['status']}; await it with: fusebox jobs wait {record['job']}", err=True
        )
    else:
        _print_answer(record)
    if "status" in record and not is_async:
        sys.exit(_unfinished(terminal, record))


def _unfinished(terminal: Terminal, record: Record) -> int:
    from deploy.errors import exit_code

    error = WaitTimeout(f"job {record['job']} had no result in time; it goes on")
    if not terminal.is_json:
        terminal.fail(error)
    return exit_code(error)


def _print_answer(record: Record) -> None:
    """The answer alone on standard output, so that it can be piped on; the rest beside it."""
    from deploy.commands.jobs import timings_text
    from deploy.render import shortened

    answer = record["outputs"] if "outputs" in record else record["result"]
    if sys.stdout.isatty():
        click.echo(json.dumps(shortened(answer), indent=2))
    else:
        click.echo(json.dumps(answer))
    group = record["group"]
    click.secho(
        f"{record['function']}@{record['version']}  job {record['job']}  "
        f"{timings_text(record['timings_ms'])}  "
        f"in a group of {group['jobs']} jobs, {group['functions']} functions",
        dim=True,
        err=True,
    )
    if "explanation" in record:
        click.secho(record["explanation"]["sentence"], dim=True, err=True)


def _invoke_often(
    terminal: Terminal,
    name: str,
    body: Body,
    count: int,
    concurrency: int,
    priority: int | None,
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    from deploy.repeat import repeat

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal.errors, disable=terminal.is_json) as progress:
        task = progress.add_task(name, total=count)

        def on_call() -> None:
            progress.advance(task)

        summary = repeat(terminal.client, name, body, count, concurrency, on_call, priority)
    terminal.show(summary.as_json(), lambda: _summary_table(summary))
    if summary.failed:
        sys.exit(FAILED)


def _summary_table(summary: Summary) -> Table:
    from deploy.render import human_ms, pairs

    rows = [
        ("calls", f"{summary.requests}, {summary.failed} failed, in {summary.seconds:.2f} s"),
        ("throughput", f"{summary.throughput_per_s:.1f} per second"),
        ("p50", human_ms(summary.p50_ms)),
        ("p95", human_ms(summary.p95_ms)),
        ("p99", human_ms(summary.p99_ms)),
    ]
    if summary.mean_group_jobs is not None and summary.cold_share is not None:
        rows.append(("mean group size", f"{summary.mean_group_jobs:.2f} jobs"))
        rows.append(("cold starts", f"{summary.cold_share:.1%}"))
    rows += [(f"error {code}", str(n)) for code, n in summary.errors.items()]
    return pairs(rows)
