"""The supervisor starts again what exits, whatever it left behind."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.supervisor import Program, Supervisor

WAIT_S = 20.0


@contextmanager
def supervising(*programs: Program) -> Iterator[Supervisor]:
    """A supervisor that runs these programs until the end of the test."""
    supervisor = Supervisor(os.environ, WAIT_S)
    for program in programs:
        supervisor.start(program)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.request_stop()
        thread.join(WAIT_S)
        supervisor.stop([program.name for program in programs])
        assert not thread.is_alive()


def next_line(pipe: int) -> str:
    """The next line that a program wrote; blocks until there is one."""
    with os.fdopen(os.dup(pipe)) as lines:
        return lines.readline().strip()


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """A pipe by name, where programs say that they run."""
    path = tmp_path / "diary"
    os.mkfifo(path)
    return path


def test_a_process_is_started_again_though_its_child_holds_its_output(diary: Path) -> None:
    """The end of the output is the end of the last process that has it, not of the program."""
    program = Program("parent", f"sleep 600 & echo $$ $! > {diary}; wait")
    # open for writing as well: a pipe without writers would read as ended
    pipe = os.open(diary, os.O_RDWR)
    try:
        with supervising(program):
            parent, orphan = map(int, next_line(pipe).split())
            orphan_end = os.pidfd_open(orphan)
            os.kill(parent, signal.SIGKILL)
            again, _ = map(int, next_line(pipe).split())
            assert again != parent
            ended, _, _ = select.select([orphan_end], [], [], WAIT_S)
            os.close(orphan_end)
            assert ended == [orphan_end]
    finally:
        os.close(pipe)
