"""The process between a worker and a handler host: `python -m workers.handlers.keeper FD FD`.

It starts the host, out of reach of the function's code, and outlives it: when the host ends, or
the worker's end of the lifeline closes, or memory is used up, everything the function started is
ended and its files are removed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import shutil
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from workers.handlers import jail
from workers.handlers.frames import receive
from workers.handlers.jail import Jail

# Exit statuses that say what was used up.
MEMORY_STATUS, PROCESSES_STATUS = 91, 92
# Between two looks at what the host's own processes use; the host itself has a limit of the kernel.
LOOK_MS = 200
# A function that computes for more of the time than this runs after the others, until it rests.
BUSY_SHARE = 0.5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def keep(channel: int, lifeline: socket.socket) -> NoReturn:
    """Start the host and wait for the end of either."""
    limits = Jail(*receive(lifeline))
    measures = jail.leave(limits)
    pid = os.fork()
    if pid == 0:
        lifeline.close()
        _host(channel, limits, measures)
    # the host alone holds its pipes: the worker sees when it closes them
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2, channel):
        os.dup2(null, fd)
    used_up = _watch(pid, lifeline, limits)
    ended = _end_all(pid)
    shutil.rmtree(limits.scratch, ignore_errors=True)
    if used_up:
        os._exit(used_up)
    _exit_as(ended)


def _host(channel: int, limits: Jail, measures: list[str]) -> NoReturn:
    status = 1
    try:
        measures = measures + jail.enter(limits)
        from workers.handlers.host import serve

        # at once where Python forks; the keeper finds the others
        os.register_at_fork(after_in_child=_yield_to_all_at_once)
        serve(socket.socket(fileno=channel), measures)
        status = 0
    except (OSError, EOFError):
        # the worker is gone, or the function closed the socket: there is nobody to tell
        pass
    finally:
        # what the function registered to run at exit is not run
        os._exit(status)


def _watch(pid: int, lifeline: socket.socket, limits: Jail) -> int:
    """Wait for the end; the exit status that says what was used up, or 0."""
    poller = select.poll()
    host = os.pidfd_open(pid)
    poller.register(host, select.POLLIN)
    poller.register(lifeline, select.POLLRDHUP)
    # from the start on, as `jail.enter` does
    yields, used_s = True, 0.0
    while not poller.poll(LOOK_MS):
        others = descendants(os.getpid())
        _yield_to_all(other for other in others if other != pid)
        if len(others) > limits.processes:
            return PROCESSES_STATUS
        if (len(others) > 1 or limits.has_gpu) and sum(
            map(_resident_bytes, others)
        ) > limits.memory_bytes:
            return MEMORY_STATUS
        before_s, used_s = used_s, sum(map(_processor_s, others))
        is_busy = used_s - before_s > BUSY_SHARE * LOOK_MS / 1000
        if is_busy != yields:
            jail.yield_as_session(is_busy, pid)
        yields = is_busy
    return 0


def _yield_to_all(pids: Iterable[int]) -> None:
    """What the host started, and may have left behind, runs where nothing else wants to."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setscheduler(int(task), os.SCHED_IDLE, os.sched_param(0))


def _yield_to_all_at_once() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def descendants(pid: int) -> list[int]:
    """Every process below this one, as of now."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        try:
            tasks = [*Path(f"/proc/{waiting.pop()}/task").iterdir()]
            children = [int(w) for task in tasks for w in (task / "children").read_text().split()]
        except OSError:
            continue  # it ended while we looked
        found += children
        waiting += children
    return found


def _processor_s(pid: int) -> float:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / _TICKS_PER_S


def _resident_bytes(pid: int) -> int:
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * _PAGE_BYTES


def _end_all(host: int) -> int:
    """Kill until nothing is left below this process; the host's wait status."""
    status = 0
    # with a process namespace the first kill ends all; orphans come to this process either way
    while pids := descendants(os.getpid()):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            ended, its_status = os.wait()
            status = its_status if ended == host else status
    return status


def _exit_as(ended: int) -> NoReturn:
    """As the host ended, so that the worker sees it end."""
    if os.WIFSIGNALED(ended):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):
            # SIGKILL has no disposition to set
            signal.signal(os.WTERMSIG(ended), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(ended))
    os._exit(os.WEXITSTATUS(ended))


if __name__ == "__main__":
    keep(int(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
