"""Runs the processes of the Procfile: prefixed output, restarts, and an orderly stop in waves.

Honcho reads the Procfile and prints; it stops everything at once and restarts nothing, which would
take the store away from workers that still settle jobs. Hence this loop. All children are started
by the main thread: the kernel's parent-death signal is bound to the thread that forked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue

from honcho.colour import get_colours
from honcho.printer import Message, Printer

PR_SET_PDEATHSIG = 1
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 10.0
# A process that ran this long has recovered: the next restart is immediate again.
STABLE_S = 30.0
# How long the last lines of a process that ended are waited for.
LAST_LINES_S = 1.0
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Program:
    """A line of the Procfile, once per process of it."""

    name: str
    command: str


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    colour: str
    started_at_s: float = field(default_factory=time.monotonic)


class Supervisor:
    """Keeps programs running until it is told to stop."""

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic):
        self._environ = dict(environ)
        self._clock = clock
        self._children: dict[str, _Child] = {}
        self._backoff_s: dict[str, float] = {}
        self._restarts: dict[str, tuple[float, Program]] = {}
        self._exits: SimpleQueue[str | None] = SimpleQueue()
        self._colours = get_colours()
        self._printer = Printer(sys.stdout, width=12)
        self._printing = threading.Lock()

    def start(self, program: Program) -> None:
        """Start a program; call from the main thread only."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", program.command],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal is for the supervisor alone, which stops in order
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        child = _Child(program, process, next(self._colours), self._clock())
        self._children[program.name] = child
        printer = threading.Thread(target=self._print, args=(child,), daemon=True)
        printer.start()
        threading.Thread(target=self._await, args=(child, printer), daemon=True).start()

    def run(self) -> None:
        """Restart what exits, until `request_stop`."""
        while True:
            try:
                name = self._exits.get(timeout=self._next_restart_in_s())
            except Empty:
                self._restart_due()
                continue
            if name is None:
                return
            self._plan_restart(self._children.pop(name))

    def request_stop(self) -> None:
        """Let `run` return; safe in a signal handler."""
        self._exits.put(None)  # SimpleQueue: its put may interrupt itself

    def stop(self, waves: Sequence[str], patience_s: float) -> None:
        """Stop the programs wave by wave (a wave is a name in the Procfile); each may drain."""
        for wave in waves:
            children = [c for name, c in self._children.items() if name.split(".")[0] == wave]
            for child in children:
                _signal(child, signal.SIGTERM)
            give_up_at_s = self._clock() + patience_s
            for child in children:
                try:
                    child.process.wait(max(0.0, give_up_at_s - self._clock()))
                except subprocess.TimeoutExpired:
                    self.say(f"{child.program.name} did not drain in {patience_s:g} s: killed")
                # also what the process itself may have left behind
                _signal(child, signal.SIGKILL)
                child.process.wait()
                self._children.pop(child.program.name, None)

    def kill(self) -> None:
        """Kill everything at once; safe in a signal handler."""
        for child in list(self._children.values()):
            _signal(child, signal.SIGKILL)

    def say(self, text: str, name: str = "fusebox", colour: str | None = None) -> None:
        """Print a line as the programs' lines are printed."""
        with self._printing:
            self._printer.write(Message("line", text, datetime.now(), name, colour))

    def _print(self, child: _Child) -> None:
        assert child.process.stdout is not None
        with child.process.stdout as lines:
            for line in lines:
                self.say(line.decode(errors="replace"), child.program.name, child.colour)

    def _await(self, child: _Child, printer: threading.Thread) -> None:
        """See the process itself end; its output may be held open by whatever it started."""
        child.process.wait()
        # what a killed parent leaves behind would keep its port, and serve without a parent
        _signal(child, signal.SIGKILL)
        printer.join(LAST_LINES_S)
        self._exits.put(child.program.name)

    def _plan_restart(self, child: _Child) -> None:
        name, now_s = child.program.name, self._clock()
        if now_s - child.started_at_s >= STABLE_S:
            self._backoff_s.pop(name, None)
        wait_s = self._backoff_s.get(name, 0.0)
        self._backoff_s[name] = min(MAX_BACKOFF_S, max(FIRST_BACKOFF_S, 2 * wait_s))
        self._restarts[name] = (now_s + wait_s, child.program)
        self.say(f"{name} exited with {child.process.returncode}; starts again in {wait_s:g} s")

    def _next_restart_in_s(self) -> float | None:
        if not self._restarts:
            return None
        return max(0.0, min(at_s for at_s, _ in self._restarts.values()) - self._clock())

    def _restart_due(self) -> None:
        now_s = self._clock()
        due = [name for name, (at_s, _) in self._restarts.items() if at_s <= now_s]
        for name in due:
            self.start(self._restarts.pop(name)[1])


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal(child: _Child, number: signal.Signals) -> None:
    try:
        os.killpg(child.process.pid, number)
    except ProcessLookupError:
        return  # the group is empty: nothing is left to signal
