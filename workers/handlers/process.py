"""One handler host as its worker sees it: a child process, a socket to it, and its output."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from contract.tensors import TensorSpec
from workers.handlers.frames import RECEIVE_BYTES, FrameError, FrameReader, pack_frame
from workers.handlers.jail import yield_as_session
from workers.handlers.keeper import MEMORY_STATUS, PROCESSES_STATUS
from workers.handlers.output import Allowance, OnLine, OutputLines
from workers.handlers.starting import (
    Forward,
    HostLimits,
    copy_code,
    environment_of,
    jail_of,
    opened,
)

_STOP_S = 2.0
# between two reads of an output that is over its bound
FLOOD_PAUSE_MS = 5


# (item of the batch, JSON)
OnProgress = Callable[[int, bytes], None]


class HostEnded(Exception):
    """The host ended, or had to be ended; `is_timeout` when a call took too long."""

    def __init__(self, problem: str, is_timeout: bool = False) -> None:
        super().__init__(problem)
        self.is_timeout = is_timeout


class HostProcess:
    """A running host. Not thread-safe; its owner calls from one thread at a time."""

    def __init__(
        self,
        artifact: Path,
        inputs: Sequence[TensorSpec],
        limits: HostLimits,
        forward: Forward | None = None,
    ) -> None:
        self._limits = limits
        self._forward = forward
        self._scratch = Path(tempfile.mkdtemp(prefix="fusebox-host-"))
        try:
            folder = copy_code(artifact, self._scratch / "function")
            with opened(forward) as weights:
                self._start(weights)
            jail = jail_of(self._scratch, limits, forward)
            self._lifeline.sendall(pack_frame(list(jail)))
            first = [str(folder), list(inputs), limits.payload_bytes, limits.reply_bytes]
            self._send([*first, None if forward is None else [*weights, *forward[1:]]])
        except BaseException:
            self.stop()
            raise

    def _start(self, weights: Sequence[int]) -> None:
        self._channel, theirs = socket.socketpair()
        self._lifeline, keepers = socket.socketpair()
        stdout, out = os.pipe()
        stderr, err = os.pipe()
        self._allowance = Allowance()
        self._outputs = {
            stdout: OutputLines("info", self._allowance),
            stderr: OutputLines("error", self._allowance),
        }
        self._answers = select.poll()
        self._answers.register(self._channel, select.POLLIN)
        self._poller = select.poll()
        for fd in (self._channel.fileno(), stdout, stderr):
            self._poller.register(fd, select.POLLIN)
        fds = (theirs.fileno(), keepers.fileno())
        try:
            self._process = subprocess.Popen(
                # -P: nothing beside the function's files is imported by mistake
                [sys.executable, "-P", "-m", "workers.handlers.keeper", *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=(*fds, *weights),
                cwd=self._scratch,
                env=environment_of(self._scratch, self._forward),
                # a Ctrl-C on the terminal is not for it
                start_new_session=True,
            )
            yield_as_session(True, self._process.pid)
        finally:
            theirs.close()
            keepers.close()
            os.close(out)
            os.close(err)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether the child still runs and has not answered what nobody asked."""
        silent = select.poll()
        silent.register(self._channel, select.POLLIN | select.POLLRDHUP)
        return self._process.poll() is None and not silent.poll(0)

    def wait_ready(self, on_line: OnLine) -> list[Any]:
        """The child's first answer: whether the function's code could be imported."""
        replies: list[list[Any]] = []
        within_s = max(self._limits.start_s, self._limits.call_s)
        self._receive(b"", replies, 1, on_line, within_s)
        return replies[0]

    def call(
        self,
        hook: str,
        items: Sequence[Any],
        replies: list[list[Any]],
        on_line: OnLine,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Run a hook on each item in turn, appending each answer as it comes.

        Progress does not prolong the time of its item. Raises HostEnded when the child did not
        answer them all: the first without an answer is the one that ended it.
        """
        token = os.urandom(8)
        self._send([token, hook, items])
        self._receive(token, replies, len(items), on_line, self._limits.call_s, on_progress)

    def kill(self) -> None:
        """End the child and all it started; a call under way raises HostEnded."""
        # the keeper sees its lifeline end; closing it here would race with who uses it
        with contextlib.suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End the child and remove its files; no call may be under way."""
        if hasattr(self, "_process"):
            self.kill()
            self._wait_for_end()
        if hasattr(self, "_outputs"):
            self._channel.close()
            self._lifeline.close()
            for fd in self._outputs:
                os.close(fd)
            self._outputs = {}
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _wait_for_end(self) -> None:
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            # without a process space of its own a function can stop its keeper
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _send(self, message: Any) -> None:
        self._channel.settimeout(self._limits.call_s)
        try:
            self._channel.sendall(pack_frame(message))
        except TimeoutError as error:
            raise HostEnded("did not take its input in time", is_timeout=True) from error
        except OSError as error:
            raise HostEnded(self._how_it_ended()) from error

    def _receive(
        self,
        token: bytes,
        replies: list[list[Any]],
        count: int,
        on_line: OnLine,
        within_s: float,
        on_progress: OnProgress | None = None,
    ) -> None:
        reader = FrameReader(self._limits.reply_bytes)
        self._allowance.begin()
        for lines in self._outputs.values():
            lines.begin()
        last_at_s = time.monotonic()
        try:
            while len(replies) < count:
                for message in self._wait(reader, last_at_s, within_s, on_line):
                    # the function's own code can write to the socket too
                    match message:
                        case [bytes(its), int(index), ["progress", bytes(data)]] if (
                            on_progress is not None
                            and (its, index) == (token, len(replies))
                            and index < count
                        ):
                            on_progress(index, data)
                            continue
                        case [bytes(its), int(index), list(answer)] if (its, index) == (
                            token,
                            len(replies),
                        ) and index < count:
                            replies.append(answer)
                        case _:
                            raise HostEnded("sent what is no answer")
                    last_at_s = time.monotonic()
        except FrameError as error:
            raise HostEnded(f"sent {error}") from error
        finally:
            self._drain(on_line)

    def _wait(
        self, reader: FrameReader, since_s: float, within_s: float, on_line: OnLine
    ) -> Iterable[Any]:
        end_s = since_s + within_s
        remaining_s = end_s - time.monotonic()
        ready = self._poll(remaining_s * 1000) if remaining_s > 0 else {}
        if not ready and time.monotonic() >= end_s:
            problem = f"took longer than {within_s:g} s"
            raise HostEnded(problem, is_timeout=True)
        for fd in ready.keys() & self._outputs.keys():
            self._read_output(fd, on_line)
        if self._channel.fileno() not in ready:
            return []
        try:
            data = self._channel.recv(RECEIVE_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            raise HostEnded(self._how_it_ended())
        return reader.feed(data)

    def _poll(self, timeout_ms: float) -> dict[int, int]:
        if any(lines.is_flooded for lines in self._outputs.values()):
            # a pipe's worth at a time: the child waits, and not the worker's other threads
            pause_ms = min(FLOOD_PAUSE_MS, timeout_ms)
            return dict(self._answers.poll(pause_ms) or self._poller.poll(0))
        return dict(self._poller.poll(timeout_ms))

    def _drain(self, on_line: OnLine) -> None:
        for fd in list(self._outputs):
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            # one pipe's worth: a child that never stops printing must not hold its caller
            if poller.poll(0):
                self._read_output(fd, on_line)
            if fd in self._outputs:
                self._outputs[fd].end(time.monotonic(), on_line)

    def _read_output(self, fd: int, on_line: OnLine) -> None:
        data = os.read(fd, RECEIVE_BYTES)
        if data:
            self._outputs[fd].feed(data, time.monotonic(), on_line)
        else:
            # the child closed it; polling it on would spin
            self._poller.unregister(fd)
            self._outputs.pop(fd).end(time.monotonic(), on_line)
            os.close(fd)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        if code == MEMORY_STATUS:
            return f"and what it started used more than {self._limits.memory_bytes} bytes of memory"
        if code == PROCESSES_STATUS:
            return f"started more than {self._limits.processes} processes"
        return f"ended with exit status {code}"
