"""`fusebox worker`: workers on this machine, for a platform that runs on another."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

import click

from contract.settings import SettingError, read_settings
from deploy.supervisor import Program, Supervisor
from deploy.up import MARGIN_S, child_environ, procfile

_OPTIONS = {
    "store": "REDIS_URL",
    "artifacts": "FUSEBOX_ARTIFACTS",
    "data": "FUSEBOX_DATA",
    "device": "FUSEBOX_DEVICE",
    "workers": "FUSEBOX_WORKERS",
    "budget": "FUSEBOX_MEMORY_BUDGET",
}


def run_workers(environ: Mapping[str, str]) -> None:
    """Run FUSEBOX_WORKERS workers until SIGINT or SIGTERM, then let them finish their groups."""
    settings = read_settings(environ)
    if not settings.workers:
        raise SettingError("FUSEBOX_WORKERS: expected at least 1, got 0")
    settings.data.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor(child_environ(environ, settings), settings.drain_s + MARGIN_S)
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, lambda *_: supervisor.request_stop())
    command = procfile()["worker"]
    try:
        for number in range(settings.workers):
            name = f"worker.{number + 1}" if settings.workers > 1 else "worker"
            supervisor.start(Program(name, command))
        supervisor.run()
    finally:
        supervisor.say("stopping: running work is finished first")
        supervisor.stop(["worker"])


@click.command("worker")
@click.option("--store", help="The platform's store, e.g. redis://HOST:6379 (REDIS_URL).")
@click.option(
    "--artifacts",
    help="Where artifacts are fetched from, e.g. http://HOST:8080/v1/artifacts or s3://BUCKET "
    "(FUSEBOX_ARTIFACTS).",
)
@click.option("--data", help="Folder for artifacts (FUSEBOX_DATA, default .fusebox).")
@click.option("--device", help="auto, cpu or cuda:<index> (FUSEBOX_DEVICE, default auto).")
@click.option("--workers", help="Worker processes (FUSEBOX_WORKERS, default 1).")
@click.option("--budget", help="Device memory per worker, e.g. 2GiB (FUSEBOX_MEMORY_BUDGET).")
def worker(**options: str | None) -> None:
    """Run workers for a platform on another machine, in the foreground until Ctrl-C."""
    given = {_OPTIONS[name]: value for name, value in options.items() if value is not None}
    environ = dict(os.environ) | given
    for name, option in (("REDIS_URL", "--store"), ("FUSEBOX_ARTIFACTS", "--artifacts")):
        if not environ.get(name):
            raise click.UsageError(f"{option}: expected a URL here or in {name}, got none")
    try:
        run_workers(environ)
    except SettingError as error:
        raise click.UsageError(str(error)) from error
