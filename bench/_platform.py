"""A whole platform for a benchmark or an end-to-end test: real processes, a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
START_S = 90.0
STOP_S = 60.0


@dataclass(frozen=True)
class Platform:
    """A running platform."""

    url: str
    data: Path
    process: subprocess.Popen[bytes]
    log: Path
    environ: Mapping[str, str]

    def fusebox(self, *words: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run the command line against this platform."""
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *words],
            cwd=ROOT,
            env=self.environ,
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def deploy(self, *words: str) -> None:
        """Deploy a function; fails loudly."""
        done = self.fusebox("deploy", *words)
        assert done.returncode == 0, f"deploy {words}: {done.stdout}\n{done.stderr}\n{self.tail()}"

    def wait_ready(self, path: str = "/readyz", timeout_s: float = START_S) -> None:
        """Wait until this path answers 200."""
        give_up_at_s = time.monotonic() + timeout_s
        last = "nothing"
        while time.monotonic() < give_up_at_s:
            assert self.process.poll() is None, f"the platform exited:\n{self.tail()}"
            try:
                answer = requests.get(self.url + path, timeout=5)
            except (requests.ConnectionError, requests.Timeout):
                last = "no answer"
            else:
                if answer.status_code == 200:
                    return
                last = answer.text
            time.sleep(0.05)  # another process: there is nothing to wait on but its answers
        raise AssertionError(f"{path} is not ready: {last}\n{self.tail()}")

    def wait_workers(self, count: int = 1, timeout_s: float = START_S) -> None:
        """Wait until this many workers report."""
        give_up_at_s = time.monotonic() + timeout_s
        while time.monotonic() < give_up_at_s:
            workers = requests.get(self.url + "/v1/workers", timeout=START_S).json()["workers"]
            if len(workers) >= count:
                return
            time.sleep(0.05)
        raise AssertionError(f"no {count} workers:\n{self.tail()}")

    def tail(self, lines: int = 60) -> str:
        """The end of what the platform printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> int:
        """Stop as Ctrl-C does; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_S)


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(data: Path, *options: str, **settings: str) -> Platform:
    """Start `fusebox up` over this data folder; does not wait for it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environ = {key: value for key, value in os.environ.items() if key != "REDIS_URL"}
    environ |= {"FUSEBOX_URL": url, "PYTHONPATH": str(ROOT)}
    # a compiler in the background is measured, and tested, where it is meant
    environ |= {"FUSEBOX_COMPILE_AFTER": "0"} | settings
    data.mkdir(parents=True, exist_ok=True)
    log = data / "platform.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "deploy.cli",
                "up",
                "--port",
                str(port),
                "--data",
                str(data),
                *options,
            ],
            cwd=ROOT,
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Platform(url, data, process, log, environ)


@contextmanager
def running_platform(*options: str, **settings: str) -> Iterator[Platform]:
    """A platform without functions whose workers report; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        platform = start(Path(folder), "--no-examples", *options, **settings)
        try:
            platform.wait_ready("/healthz")
            platform.wait_workers(int(settings.get("FUSEBOX_WORKERS", "1")))
            yield platform
        finally:
            try:
                platform.stop()
            finally:
                platform.process.kill()
