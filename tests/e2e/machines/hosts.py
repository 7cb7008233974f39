"""Network namespaces as machines of their own, and workers on them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench._platform import ROOT

STOP_S = 30.0


def why_not() -> str:
    """Why there can be no namespaces here; "" where there can."""
    if os.getuid():
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the program ip"
    name = f"fb{os.getpid()}try"
    made = _ip("netns", "add", name)
    if made.returncode:
        return f"network namespaces cannot be made: {made.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


@dataclass(frozen=True)
class Host:
    """A namespace with one address, which others reach through its hub."""

    name: str
    address: str = ""
    # the hub's end of the cable
    cable: str = ""

    def popen(
        self, words: Sequence[str], environ: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a program there."""
        with log.open("ab") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *words],
                cwd=ROOT,
                env=environ,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def ip(self, *words: str) -> None:
        """Run `ip` there."""
        done = _ip("-n", self.name, *words)
        assert done.returncode == 0, (words, done.stderr)

    @contextmanager
    def cut_off(self, hub: Host) -> Iterator[None]:
        """Pull its cable; packets are lost, and nobody is told."""
        hub.ip("link", "set", self.cable, "down")
        try:
            yield
        finally:
            hub.ip("link", "set", self.cable, "up")


@contextmanager
def network(count: int) -> Iterator[tuple[Host, list[Host]]]:
    """A hub that this process reaches at its address, and hosts around it."""
    prefix, net = f"fb{os.getpid()}", 64 + os.getpid() % 128
    hub = Host(f"{prefix}h", f"10.{net}.0.2")
    hosts = [Host(f"{prefix}{i}", f"10.{net}.{i + 1}.2", f"{prefix}c{i}") for i in range(count)]
    outside = f"{prefix}o"
    made: list[str] = []
    try:
        for host in (hub, *hosts):
            assert _ip("netns", "add", host.name).returncode == 0
            made.append(host.name)
            host.ip("link", "set", "lo", "up")
        _ip("link", "add", outside, "type", "veth", "peer", "name", "e0", "netns", hub.name)
        _ip("addr", "add", f"10.{net}.0.1/24", "dev", outside)
        _ip("link", "set", outside, "up")
        hub.ip("addr", "add", f"{hub.address}/24", "dev", "e0")
        hub.ip("link", "set", "e0", "up")
        for i, host in enumerate(hosts):
            peer = ("type", "veth", "peer", "name", "e0", "netns", host.name)
            hub.ip("link", "add", host.cable, *peer)
            hub.ip("addr", "add", f"10.{net}.{i + 1}.1/24", "dev", host.cable)
            hub.ip("link", "set", host.cable, "up")
            host.ip("addr", "add", f"{host.address}/24", "dev", "e0")
            host.ip("link", "set", "e0", "up")
            host.ip("route", "add", "default", "via", f"10.{net}.{i + 1}.1")
        yield hub, hosts
    finally:
        for name in made:
            _ip("netns", "del", name)


@dataclass(frozen=True)
class Machine:
    """`fusebox worker` somewhere, over a data folder of its own."""

    process: subprocess.Popen[bytes]
    data: Path
    log: Path

    def stop(self) -> int:
        """Let it finish its groups; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


def start_worker(
    data: Path, store: str, artifacts: str, environ: Mapping[str, str], host: Host | None = None
) -> Machine:
    """The one command that a machine with a worker runs."""
    data.mkdir()
    log = data / "worker.log"
    words = [
        *(sys.executable, "-m", "deploy.cli", "worker"),
        *("--store", store, "--artifacts", artifacts, "--data", str(data)),
    ]
    if host is not None:
        return Machine(host.popen(words, environ, log), data, log)
    with log.open("ab") as output:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT
        )
    return Machine(process, data, log)


def _ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], text=True, capture_output=True, check=False)
