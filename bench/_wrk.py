"""Load from `wrk` (Debian package `wrk`): clients that send one request again and again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

_DONE = """
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %f %f %f %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
"""


class Call(NamedTuple):
    """What each client sends."""

    method: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def script(self) -> str:
        """As wrk reads it."""
        lines = [f"wrk.method = {_lua(self.method.encode())}", f"wrk.body = {_lua(self.body)}"]
        lines += [
            f"wrk.headers[{_lua(name.encode())}] = {_lua(value.encode())}"
            for name, value in self.headers.items()
        ]
        return "\n".join(lines) + _DONE


class Load:
    """One run of wrk."""

    def __init__(self, url: str, call: Call, connections: int, seconds: float) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(call.script)
            script.flush()
            command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", script.name, url]
            printed = subprocess.run(command, text=True, capture_output=True, check=True).stdout
        found = re.search(r"RESULT (\d+) (\d+) (\S+) (\S+) (\S+) (\d+)", printed)
        assert found, printed
        count, duration_us, p50_us, p95_us, p99_us, errors = map(float, found.groups())
        self.rate = count / duration_us * 1e6
        self.p50_ms, self.p95_ms, self.p99_ms = (us / 1e3 for us in (p50_us, p95_us, p99_us))
        self.errors = int(errors)


def require_wrk() -> None:
    """Exit, saying what to install, where there is no wrk."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: install Debian's package `wrk`")


def _lua(data: bytes) -> str:
    """Bytes as a string of Lua, which has decimal escapes."""
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'
