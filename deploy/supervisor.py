"""Runs the processes of the Procfile: prefixed output, restarts, and an orderly stop in waves.

A process may ask to be replaced (`contract.supervision`): another is started beside it, and it is
stopped when that one says that it is ready.

Honcho reads the Procfile and prints; it stops everything at once and restarts nothing, which would
take the store away from workers that still settle jobs. Hence this loop. All children are started
by the main thread: the kernel's parent-death signal is bound to the thread that forked.
"""

from __future__ import annotations

import ctypes
import math
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
from typing import NamedTuple

from honcho.colour import get_colours
from honcho.printer import Message, Printer

from contract.supervision import VARIABLE, Word

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


class _News(NamedTuple):
    child: _Child
    # None: it has exited
    word: Word | None


class Supervisor:
    """Keeps programs running until it is told to stop; each may take `patience_s` to drain."""

    def __init__(
        self,
        environ: Mapping[str, str],
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._environ = dict(environ)
        self._patience_s = patience_s
        self._clock = clock
        self._children: dict[str, _Child] = {}
        # asked to be replaced, and still running: until when, infinite before the other is ready
        self._leaving: dict[str, tuple[_Child, float]] = {}
        self._backoff_s: dict[str, float] = {}
        self._restarts: dict[str, tuple[float, Program]] = {}
        self._news: SimpleQueue[_News | None] = SimpleQueue()
        self._colours = get_colours()
        self._printer = Printer(sys.stdout, width=12)
        self._printing = threading.Lock()

    def start(self, program: Program) -> None:
        """Start a program; call from the main thread only."""
        words, speaker = os.pipe()
        process = subprocess.Popen(
            ["/bin/sh", "-c", program.command],
            env=self._environ | {VARIABLE: str(speaker)},
            pass_fds=[speaker],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal is for the supervisor alone, which stops in order
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        os.close(speaker)
        child = _Child(program, process, next(self._colours), self._clock())
        self._children[program.name] = child
        printer = threading.Thread(target=self._print, args=(child,), daemon=True)
        printer.start()
        threading.Thread(target=self._listen, args=(child, words), daemon=True).start()
        threading.Thread(target=self._await, args=(child, printer), daemon=True).start()

    def run(self) -> None:
        """Restart what exits and replace what asks for it, until `request_stop`."""
        while True:
            try:
                news = self._news.get(timeout=self._next_due_in_s())
            except Empty:
                self._do_due()
                continue
            if news is None:
                return
            self._hear(news)

    def request_stop(self) -> None:
        """Let `run` return; safe in a signal handler."""
        self._news.put(None)  # SimpleQueue: its put may interrupt itself

    def stop(self, waves: Sequence[str]) -> None:
        """Stop the programs wave by wave (a wave is a name in the Procfile); each may drain."""
        for wave in waves:
            children = [c for c in self._running() if c.program.name.split(".")[0] == wave]
            for child in children:
                _signal(child, signal.SIGTERM)
            give_up_at_s = self._clock() + self._patience_s
            for child in children:
                try:
                    child.process.wait(max(0.0, give_up_at_s - self._clock()))
                except subprocess.TimeoutExpired:
                    self._say_killed(child)
                # also what the process itself may have left behind
                _signal(child, signal.SIGKILL)
                child.process.wait()
                self._children.pop(child.program.name, None)
                self._leaving.pop(child.program.name, None)

    def kill(self) -> None:
        """Kill everything at once; safe in a signal handler."""
        for child in self._running():
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
        self._news.put(_News(child, None))

    def _listen(self, child: _Child, words: int) -> None:
        with os.fdopen(words) as lines:
            for line in lines:
                self._news.put(_News(child, Word(line.strip())))

    def _running(self) -> list[_Child]:
        return [*self._children.values(), *(child for child, _ in list(self._leaving.values()))]

    def _hear(self, news: _News) -> None:
        child, word = news
        name = child.program.name
        is_current = self._children.get(name) is child
        if word is Word.READY and name in self._leaving and is_current:
            leaver, _ = self._leaving[name]
            self._leaving[name] = (leaver, self._clock() + self._patience_s)
            _signal(leaver, signal.SIGTERM)
        elif word is Word.REPLACE and is_current and name not in self._leaving:
            self.say(f"{name} asks to be replaced; another starts beside it")
            self._leaving[name] = (child, math.inf)
            self.start(child.program)
        elif word is None and is_current:
            self._plan_restart(self._children.pop(name))
        elif word is None:
            self._leaving.pop(name, None)
            self.say(f"{name} was replaced and exited with {child.process.returncode}")

    def _plan_restart(self, child: _Child) -> None:
        name, now_s = child.program.name, self._clock()
        if now_s - child.started_at_s >= STABLE_S:
            self._backoff_s.pop(name, None)
        wait_s = self._backoff_s.get(name, 0.0)
        self._backoff_s[name] = min(MAX_BACKOFF_S, max(FIRST_BACKOFF_S, 2 * wait_s))
        self._restarts[name] = (now_s + wait_s, child.program)
        self.say(f"{name} exited with {child.process.returncode}; starts again in {wait_s:g} s")

    def _next_due_in_s(self) -> float | None:
        due_s = [at_s for at_s, _ in self._restarts.values()]
        due_s += [at_s for _, at_s in self._leaving.values() if at_s < math.inf]
        return max(0.0, min(due_s) - self._clock()) if due_s else None

    def _do_due(self) -> None:
        now_s = self._clock()
        for name in [name for name, (at_s, _) in self._restarts.items() if at_s <= now_s]:
            self.start(self._restarts.pop(name)[1])
        for name, (child, give_up_at_s) in self._leaving.items():
            if give_up_at_s <= now_s:
                self._say_killed(child)
                _signal(child, signal.SIGKILL)
                self._leaving[name] = (child, math.inf)

    def _say_killed(self, child: _Child) -> None:
        self.say(f"{child.program.name} did not drain in {self._patience_s:g} s: killed")


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal(child: _Child, number: signal.Signals) -> None:
    try:
        os.killpg(child.process.pid, number)
    except ProcessLookupError:
        return  # the group is empty: nothing is left to signal
