"""Real servers: the embedded one, and Debian's `redis-server` where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from contract.store import Store, open_store
from deploy.embedded_store import server_command

SERVERS = ["embedded", "redis-server"]
START_S = 10.0


@contextmanager
def running_server(kind: str) -> Iterator[str]:
    """A server of this kind on a unix socket of its own; yields its URL."""
    # a short path of its own: sun_path holds 107 bytes
    with tempfile.TemporaryDirectory(prefix="fb-") as name:
        folder = Path(name)
        socket = folder / "s"
        command = server_command(folder, socket, "everysec")
        if kind == "redis-server":
            program = shutil.which("redis-server")
            if program is None:
                pytest.skip("redis-server is not installed")
            command[0] = program
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
        try:
            _wait_until_ready(socket, process)
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait(10)


def _wait_until_ready(socket: Path, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        assert process.poll() is None, "the server did not start"
        with redis.Redis(unix_socket_path=str(socket)) as client:
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.01)  # the server has no event to wait for before its socket exists
            else:
                return
    pytest.fail("the server did not answer")


@pytest.fixture(scope="session", params=SERVERS)
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server of each kind."""
    with running_server(request.param) as url:
        yield url


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """A store over an empty server."""
    opened = open_store(redis_url, result_ttl_s=60)
    opened.server.redis.flushall()
    yield opened
    opened.close()
