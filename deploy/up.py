"""`fusebox up`: the whole platform in the foreground."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from honcho.environ import parse_procfile
from redis.exceptions import RedisError

from contract.access import Scope, Wish, mint
from contract.errors import StoreUnavailable
from contract.settings import SettingError, Settings, read_settings
from contract.store import open_store
from deploy.options import API_KEY_VARIABLE
from deploy.supervisor import Program, Supervisor

ROOT = Path(__file__).resolve().parent.parent
# One of them is active, the other stands by.
SCHEDULERS = EVENTS = 2
# The store outlives everybody who still writes to it.
STOP_ORDER = ("gateway", "events", "scheduler", "worker", "store")
START_S = 60.0
MARGIN_S = 5.0
LOOK_S = 0.02
# The key of the guide ends by itself where the guide's end is not seen.
GUIDE_S = 3600.0
# Terminals, shells and make may each pass on the signal of one Ctrl-C.
SAME_REQUEST_S = 1.0


def up(environ: Mapping[str, str], is_with_examples: bool) -> None:
    """Run every process of the Procfile until SIGINT or SIGTERM, then stop them in order."""
    settings = read_settings(environ)
    settings.data.mkdir(parents=True, exist_ok=True)
    with _sole_user(settings.data):
        _check_port(settings)
        # a process ends itself when its time is over, and says why
        patience_s = settings.drain_s + MARGIN_S
        supervisor = Supervisor(child_environ(environ, settings), patience_s)
        stopping = threading.Event()
        asked_at_s: list[float] = []

        def on_signal(*_: object) -> None:
            # nothing that takes a lock: a handler may interrupt itself
            asked_at_s.append(time.monotonic())
            if asked_at_s[-1] - asked_at_s[0] > SAME_REQUEST_S:
                supervisor.kill()
            supervisor.request_stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)
        programs = _programs(settings)
        try:
            for program in programs:
                supervisor.start(program)
                if program.name.startswith("store"):
                    _wait_for_store(settings)
            guide = threading.Thread(
                target=_bring_up, args=(settings, environ, is_with_examples, stopping), daemon=True
            )
            guide.start()
            supervisor.run()
        finally:
            stopping.set()
            supervisor.say("stopping: running work is finished first (Ctrl-C again kills)")
            supervisor.stop(STOP_ORDER)
            supervisor.say("stopped")


def procfile() -> dict[str, str]:
    """The commands of the Procfile, by name."""
    lines: dict[str, str] = parse_procfile((ROOT / "Procfile").read_text()).processes
    return lines


def _programs(settings: Settings) -> list[Program]:
    lines = procfile()
    count = {"events": EVENTS, "scheduler": SCHEDULERS, "worker": settings.workers}
    if not settings.is_store_embedded:
        count["store"] = 0
    return [
        Program(f"{name}.{i + 1}" if count.get(name, 1) > 1 else name, command)
        for name, command in lines.items()
        for i in range(count.get(name, 1))
    ]


def child_environ(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The children find this interpreter's programs, this project, and absolute paths."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    python_path = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH", "")]))
    # a key is for who calls the platform, not for its own processes
    mine = {name: value for name, value in environ.items() if name != API_KEY_VARIABLE}
    return mine | {
        "PATH": path,
        "PYTHONPATH": python_path,
        "PYTHONUNBUFFERED": "1",
        "FUSEBOX_DATA": str(settings.data.resolve()),
    }


@contextmanager
def _sole_user(data: Path) -> Iterator[None]:
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise click.ClickException(f"another `fusebox up` uses the folder {data}") from error
        yield


def _check_port(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise click.ClickException(
                f"cannot listen on {where} ({error.strerror}); choose another with --port"
            ) from error


def _wait_for_store(settings: Settings) -> None:
    store = open_store(settings.redis_url)
    give_up_at_s = time.monotonic() + START_S
    try:
        while True:
            try:
                # a client of its own, without retries: the socket appears when the server is up
                store.server.redis.ping()
            except RedisError as error:
                if time.monotonic() > give_up_at_s:
                    raise StoreUnavailable(f"no store answers at {settings.redis_url}") from error
                threading.Event().wait(LOOK_S)
            else:
                return
    finally:
        store.close()


def _bring_up(
    settings: Settings,
    environ: Mapping[str, str],
    is_with_examples: bool,
    stopping: threading.Event,
) -> None:
    """Deploy the examples and show what to do next, in a process of its own: it imports torch."""
    command = [sys.executable, "-m", "deploy.welcome"]
    if not is_with_examples:
        command.append("--no-examples")
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # compared
    guide_environ = child_environ(environ, settings) | {
        "FUSEBOX_URL": f"http://{host}:{settings.port}"
    }
    with (
        _guide_key(settings) as key,
        subprocess.Popen(command, env=guide_environ | key, start_new_session=True) as guide,
    ):
        threading.Thread(target=_end_with, args=(guide, stopping), daemon=True).start()
        guide.wait()


@contextmanager
def _guide_key(settings: Settings) -> Iterator[dict[str, str]]:
    """What the guide needs of its environment to call a guarded platform: a key while it runs."""
    if not settings.is_guarded:
        yield {}
        return
    wish = Wish("fusebox up", (Scope.INVOKE, Scope.DEPLOY), expires_in_s=GUIDE_S)
    key, token = mint(wish)
    store = open_store(settings.redis_url)
    try:
        store.api_keys.add(key)
        yield {API_KEY_VARIABLE: token.text}
    finally:
        store.api_keys.revoke(key.id)
        store.close()


def _end_with(guide: subprocess.Popen[bytes], stopping: threading.Event) -> None:
    stopping.wait()
    guide.terminate()


_OPTIONS = {
    "host": "FUSEBOX_HOST",
    "port": "FUSEBOX_PORT",
    "data": "FUSEBOX_DATA",
    "workers": "FUSEBOX_WORKERS",
    "budget": "FUSEBOX_MEMORY_BUDGET",
}


@click.command("up")
@click.option("--host", help="Address to listen on (FUSEBOX_HOST, default 127.0.0.1).")
@click.option("--port", help="Port to listen on (FUSEBOX_PORT, default 8080).")
@click.option("--data", help="Folder of artifacts and store (FUSEBOX_DATA, default .fusebox).")
@click.option("--workers", help="Worker processes (FUSEBOX_WORKERS, default 1).")
@click.option("--budget", help="Device memory per worker, e.g. 2GiB (FUSEBOX_MEMORY_BUDGET).")
@click.option("--no-examples", is_flag=True, help="Do not deploy the examples.")
def up_command(no_examples: bool, **options: Any) -> None:
    """Run the platform in the foreground until Ctrl-C."""
    given = {_OPTIONS[name]: value for name, value in options.items() if value is not None}
    try:
        up(dict(os.environ) | given, is_with_examples=not no_examples)
    except SettingError as error:
        raise click.UsageError(str(error)) from error
    except StoreUnavailable as error:
        raise click.ClickException(error.detail) from error
