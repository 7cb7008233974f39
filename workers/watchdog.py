"""Threads of the worker that end it when it has stopped doing its work.

Nothing is restarted in place: what a loop or a thread that hangs still holds cannot be known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import NamedTuple

from contract.errors import StoreUnavailable

DRAIN_INCOMPLETE = "drain_incomplete"
LOOK_S = 1.0
# A look that comes later than this is not the worker's fault: the whole process was stopped.
LATE_LOOKS = 2


class Look(NamedTuple):
    """What is seen of a worker at one moment."""

    # of the consuming loop, ever
    turns: int
    # groups, ever
    begun: int
    # groups that the store says this worker has
    given: frozenset[str]
    # groups it is running
    held: frozenset[str]
    # of these, those whose last job was worthless long ago
    overdue: frozenset[str]


@dataclass
class Watch:
    """Counts for how long each thing has been wrong; pure."""

    patience_s: float
    _last: Look | None = None
    _wrong_s: dict[tuple[str, str], float] = field(default_factory=dict)

    def see(self, look: Look, elapsed_s: float) -> str:
        """Take in a look that comes so long after the last one; why the worker must end, or ''."""
        wrong = {("group_does_not_end", group) for group in look.overdue}
        # while others begin, its message may be lost: that is the scheduler's affair
        if self._last is None or self._last.begun == look.begun:
            wrong |= {("group_not_begun", group) for group in look.given - look.held}
        if self._last is not None and self._last.turns == look.turns:
            wrong.add(("loop_stands_still", ""))
        self._last = look
        self._wrong_s = {one: self._wrong_s.get(one, -elapsed_s) + elapsed_s for one in wrong}
        faults = [one for one, wrong_s in self._wrong_s.items() if wrong_s >= self.patience_s]
        return " ".join(min(faults, default=())).strip()

    def forget(self) -> None:
        """Begin anew: for a while nothing could be seen."""
        self._last = None
        self._wrong_s.clear()


class Actions(NamedTuple):
    """What the watchdog can do."""

    look: Callable[[], Look]
    # hands the jobs back and ends the process, saying why; does not return
    leave: Callable[[str], None]
    # must be called again within the seconds given, or the process ends
    stay: Callable[[float], None]
    # takes the last `stay` back
    rest: Callable[[], None]
    # seconds since a drain was asked for, None while it was not
    draining_s: Callable[[], float | None]


class Watchdog:
    """Looks at the worker every second, from threads of its own: one asks the store, one never."""

    def __init__(self, actions: Actions, patience_s: float, drain_s: float) -> None:
        self._actions = actions
        self._patience_s = patience_s
        self._drain_s = drain_s
        self._watch = Watch(patience_s)
        self._look_s = min(LOOK_S, patience_s / 4, drain_s / 4)
        self._stop = Event()
        self._watcher = Thread(target=self._keep_watch, name="watchdog", daemon=True)
        self._timer = Thread(target=self._keep_time, name="watchdog-timer", daemon=True)

    def start(self) -> None:
        """Watch from here on."""
        self._watcher.start()
        self._timer.start()

    def stop(self) -> None:
        """Watch no longer: the worker has done all it had to."""
        self._stop.set()
        # the other may wait for the store, and has nothing to finish
        self._timer.join()
        self._actions.rest()

    def _keep_time(self) -> None:
        """Limits the drain, and shows that threads of this process still run."""
        while not self._stop.wait(self._look_s):
            # native code may hold the interpreter's lock, and this thread with it
            self._actions.stay(2 * self._patience_s + self._drain_s)
            if (self._actions.draining_s() or 0.0) >= self._drain_s:
                self._actions.leave(DRAIN_INCOMPLETE)

    def _keep_watch(self) -> None:
        looked_at_s = time.monotonic()
        while not self._stop.wait(self._look_s):
            elapsed_s = time.monotonic() - looked_at_s
            looked_at_s += elapsed_s
            if self._actions.draining_s() is None:
                self._look(min(elapsed_s, LATE_LOOKS * self._look_s))

    def _look(self, elapsed_s: float) -> None:
        try:
            fault = self._watch.see(self._actions.look(), elapsed_s)
        except StoreUnavailable:
            # whatever waits for the store waits rightly
            self._watch.forget()
        else:
            if fault:
                self._actions.leave(fault)
