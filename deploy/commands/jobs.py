"""`fusebox jobs get|wait|cancel`."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from deploy.errors import FAILED, OK, TOO_LATE
from deploy.verb import Terminal, verb

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.client import Event, Record

_EXIT_CODES = {
    "succeeded": OK,
    "failed": FAILED,
    "cancelled": FAILED,
    "expired": TOO_LATE,
    "refused": TOO_LATE,
}


@click.group("jobs")
def jobs() -> None:
    """Show, await or cancel jobs."""


@verb("get")
@click.argument("job")
@click.option(
    "--explain", "is_explained", is_flag=True, help="Say in full why it waited, and with whom."
)
def get(terminal: Terminal, job: str, is_explained: bool) -> None:
    """Show a job as it is now."""
    with terminal.client() as client:
        record = client.record(job)
    terminal.show(record, lambda: job_table(record, is_explained))


@verb("wait")
@click.argument("job")
@click.option("--timeout", "timeout_s", type=float, help="Seconds to wait at most.")
def wait(terminal: Terminal, job: str, timeout_s: float | None) -> None:
    """Wait until a job settles; exits 0 if it succeeded, 1 if not, 5 if it came too late."""
    with terminal.client() as client:
        record = client.wait(job, timeout_s)
    terminal.show(record, lambda: job_table(record))
    sys.exit(_EXIT_CODES[record["status"]])


@verb("follow")
@click.argument("job")
def follow(terminal: Terminal, job: str) -> None:
    """Show a job's events as they come, until it has ended; exits as `jobs wait` does."""
    status = ""
    with terminal.client(is_patient=True) as client:
        for event in client.events(job):
            status = event.data.get("status", "")
            if terminal.is_json:
                terminal.line({"id": event.id, "event": event.kind, "data": event.data})
            elif event.kind == "done":
                terminal.show(event.data, partial(job_table, event.data))
            else:
                click.echo(_event_line(event))
    sys.exit(_EXIT_CODES[status])


@verb("cancel")
@click.argument("job")
def cancel(terminal: Terminal, job: str) -> None:
    """Cancel a job that has no result yet."""
    with terminal.client() as client:
        record = client.cancel(job)
    terminal.show(record, lambda: f"{record['job']} is {record['status']}")


for _command in (get, wait, follow, cancel):
    jobs.add_command(_command)


def _event_line(event: Event) -> str:
    """`started  attempt 1` or `progress  {"done": 3}`."""
    if event.kind == "progress":
        about = json.dumps(event.data["data"])
    elif event.kind == "queued":
        about = f"{event.data['function']}@{event.data['version']}"
    else:
        about = f"attempt {event.data['attempts']}"
    return f"{event.kind}  {about}"


def job_table(record: Record, is_explained: bool = False) -> Table:
    """A job for people; with what is known of its way where that is asked for."""
    from deploy.explained import explanation_rows
    from deploy.render import pairs, shortened

    rows = [
        ("job", record["job"]),
        ("function", _called(record)),
        ("status", record["status"]),
        ("created", record["created_at"]),
        ("attempts", str(record["attempts"])),
    ]
    if record["timings_ms"]:
        rows.append(("timings", timings_text(record["timings_ms"])))
    if "error" in record:
        rows.append(("error", f"{record['error']['code']}: {record['error']['detail']}"))
    rows += [("told", delivery_text(each)) for each in record.get("deliveries", ())]
    rows += explanation_rows(record, is_explained)
    rows += [
        (field, json.dumps(shortened(record[field])))
        for field in ("outputs", "result")
        if field in record
    ]
    return pairs(rows)


def _called(record: Record) -> str:
    by = f", by {record['function']}@{record['alias']}" if "alias" in record else ""
    return f"{record['function']}@{record['version']}{by}"


def delivery_text(delivery: Record) -> str:
    """`https://...: given_up after 3 attempts: answered 410` for people."""
    count = delivery["attempts"]
    words = f"{delivery['destination']}: {delivery['state']}"
    if count:
        words += f" after {count} attempt{'s' if count > 1 else ''}"
    if delivery["job"]:
        words += f", as job {delivery['job']}"
    if delivery["error"]:
        words += f": {delivery['error']}"
    return words


def timings_text(timings_ms: dict[str, float]) -> str:
    """`queue 1.25 ms, compute 3 ms, ...`; stages that took no time are left out."""
    from deploy.render import human_ms

    return ", ".join(f"{stage} {human_ms(ms)}" for stage, ms in timings_ms.items() if ms)
