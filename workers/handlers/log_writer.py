"""Writes functions' log lines to the store beside the jobs, so that logging never slows a job."""

from __future__ import annotations

import queue
import threading

from contract.errors import StoreUnavailable
from contract.function import FunctionRef
from contract.log import Log
from contract.store.telemetry import Telemetry, now_line

log = Log("handlers")
WAITING_LINES = 10_000

_Line = tuple[FunctionRef, str, str, str]


class LogWriter:
    """A bounded queue and the thread that empties it; what does not fit is dropped and counted."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._lines: queue.Queue[_Line | None] = queue.Queue(WAITING_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="function-logs", daemon=True)
        self._thread.start()

    def write(self, function: FunctionRef, job: str, level: str, text: str) -> None:
        """Take a line; never waits."""
        try:
            self._lines.put_nowait((function, job, level, text))
        except queue.Full:
            self._dropped += 1

    def close(self, timeout_s: float) -> None:
        """Write what waits, for at most this long."""
        try:
            self._lines.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            function, job, level, text = line
            try:
                self._telemetry.write_log(
                    function.name, now_line(function.version, job, level, text)
                )
            except StoreUnavailable:
                self._dropped += 1
            if self._dropped and self._lines.empty():
                log.warning("function_log_lines_dropped", lines=self._dropped)
                self._dropped = 0
