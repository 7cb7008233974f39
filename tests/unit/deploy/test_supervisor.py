"""The supervisor restarts, replaces and stops real processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from deploy.supervisor import Program, Supervisor
from deploy.up import ROOT

WAIT_S = 30.0
# Says what the test wants said, and lives until SIGTERM; every process has a number.
CHILD = """
import os, signal, sys
from pathlib import Path
from contract.supervision import Word, tell
folder = Path(sys.argv[1])
number = len(list(folder.glob("*.pid")))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
# from here on signals find somebody who waits for them
(folder / f"{number}.pid").write_text(str(os.getpid()))
while True:
    match signal.sigwait({signal.SIGTERM, signal.SIGUSR1}):
        case signal.SIGTERM:
            (folder / f"{number}.stopped").touch()
            break
        case signal.SIGUSR1:
            word = (folder / "say").read_text()
            assert tell(os.environ, Word(word))
"""


class Family:
    """A supervisor of one program, and the processes it has started."""

    def __init__(self, folder: Path, supervisor: Supervisor) -> None:
        self.folder = folder
        self.supervisor = supervisor

    def pid(self, number: int) -> int:
        """The process id of the n-th process, once it has started."""
        path = self.folder / f"{number}.pid"
        wait(lambda: path.exists() and path.read_text())
        return int(path.read_text())

    def say(self, number: int, word: str) -> None:
        """Let a process tell its supervisor something."""
        pid = self.pid(number)
        # whole at once: the process may still be reading what was said before
        fresh = self.folder / "say.fresh"
        fresh.write_text(word)
        fresh.replace(self.folder / "say")
        os.kill(pid, signal.SIGUSR1)

    def has_stopped(self, number: int) -> bool:
        """Whether it was asked to stop, and did."""
        return (self.folder / f"{number}.stopped").exists()


def wait(is_so: object) -> None:
    """Wait until it is so."""
    assert callable(is_so)
    give_up_at_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < give_up_at_s, "it did not happen"
        time.sleep(0.01)  # files of other processes send no event


@contextmanager
def family(folder: Path) -> Iterator[Family]:
    """One process under a supervisor; the supervisor runs in this, the main thread's, children."""
    script = folder / "child.py"
    script.write_text(CHILD)
    supervisor = Supervisor({**os.environ, "PYTHONPATH": str(ROOT)}, 20.0)
    supervisor.start(Program("worker", f"exec {sys.executable} {script} {folder}"))
    runner = Thread(target=supervisor.run)
    runner.start()
    try:
        yield Family(folder, supervisor)
    finally:
        supervisor.request_stop()
        runner.join(WAIT_S)
        supervisor.stop(["worker"])


def test_who_asks_to_be_replaced_is_stopped_when_the_other_is_ready(tmp_path: Path) -> None:
    """Not before: somebody always works."""
    with family(tmp_path) as its:
        its.say(0, "replace")
        its.say(0, "replace")
        second = its.pid(1)
        assert not its.has_stopped(0)
        its.say(1, "ready")
        wait(lambda: its.has_stopped(0))
        os.kill(second, 0)
        assert not its.has_stopped(1)
    assert its.has_stopped(1)
    assert len(list(tmp_path.glob("*.pid"))) == 2


def test_a_stop_ends_both_when_a_replacement_is_under_way(tmp_path: Path) -> None:
    """The old one and the new one drain."""
    with family(tmp_path) as its:
        its.say(0, "replace")
        its.pid(1)
    assert (its.has_stopped(0), its.has_stopped(1)) == (True, True)


def test_a_successor_that_dies_is_started_again(tmp_path: Path) -> None:
    """The old one works on until there is one that is ready."""
    with family(tmp_path) as its:
        its.say(0, "replace")
        os.kill(its.pid(1), signal.SIGKILL)
        its.say(2, "ready")
        wait(lambda: its.has_stopped(0))
        assert not its.has_stopped(2)
