"""The handler hosts of a worker, one per function version, started at first use.

Hooks have theirs, and functions that run eagerly have one for forward.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from contract.errors import (
    BY_CODE,
    DeadlineExceeded,
    FuseboxError,
    HandlerFailed,
    HandlerTimeout,
    InvalidInput,
    RequestError,
    Unavailable,
)
from contract.function import Function, FunctionRef
from contract.job import Claim, JobId
from contract.log import Log
from contract.tensors import Tensors, decode_tensor
from workers.handlers.process import HostEnded, HostProcess
from workers.handlers.reported import Reported, WriteProgress, drop
from workers.handlers.starting import START_S, HostLimits

log = Log("handlers")
# Starting a host takes processor time from others: of one function so many in so many seconds.
STARTS, STARTS_S = 3, 3.0
# what a refusal may tell beside its detail
_SAID = ("field", "expected", "actual")

# (function, job or "", level, text)
WriteLine = Callable[[FunctionRef, str, str, str], None]


class HookCall(NamedTuple):
    """One call of a hook; `item` is [media type, payload] or named tensor records."""

    job: JobId
    deadline_s: float
    item: Any
    # under which progress is written
    fence: int = 0


@dataclass
class _Seat:
    """A function version's host, if it runs, and the lock of whoever uses it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    process: HostProcess | None = None
    used_at_s: float = 0.0
    measures: Sequence[str] = ()
    # monotonic, of the latest starts
    started_at_s: deque[float] = field(default_factory=lambda: deque(maxlen=STARTS))

    def start_in_s(self, now_s: float) -> float:
        """How long the next start has to wait: not at all, unless hosts end one after another."""
        if len(self.started_at_s) < STARTS:
            return 0.0
        return max(0.0, self.started_at_s[0] + STARTS_S - now_s)

    def clear(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None


class Hosts:
    """Runs hooks in child processes; thread-safe, one batch at a time per function version."""

    def __init__(
        self,
        artifacts: Path,
        limits: HostLimits,
        idle_s: float,
        write_line: WriteLine,
        open_host: Callable[[Function], HostProcess] | None = None,
        write_progress: WriteProgress = drop,
    ) -> None:
        self._open = open_host or partial(_open_host, artifacts, limits)
        self._idle_s = idle_s
        self._write_line = write_line
        self._write_progress = write_progress
        self._lock = threading.Lock()
        self._seats: dict[FunctionRef, _Seat] = {}
        self._stopped = threading.Event()

    def preprocess(
        self, function: Function, calls: Sequence[HookCall]
    ) -> list[Tensors | FuseboxError]:
        """Input tensors per call, or why there are none."""
        return self._run(function, "preprocess", calls, _decode_tensors)

    def postprocess(self, function: Function, calls: Sequence[HookCall]) -> list[Any]:
        """Results per call; a FuseboxError where there is none."""
        return self._run(function, "postprocess", calls, _decode_json)

    def forward(
        self, function: Function, calls: Sequence[HookCall]
    ) -> list[Tensors | FuseboxError]:
        """Output tensors per call of a function that runs eagerly, or why there are none."""
        return self._run(function, "forward", calls, _decode_tensors)

    def start(self, function: Function) -> None:
        """Start its host, unless it runs; raises FuseboxError where that fails."""
        with self._lock:
            seat = self._seats.setdefault(function.ref, _Seat())
        with seat.lock:
            self._started(seat, _Batch(function, "load", self._write_line))

    def end(self, ref: FunctionRef) -> None:
        """End its host, if it runs; it may be started again."""
        with self._lock:
            seat = self._seats.get(ref)
        if seat is not None:
            with seat.lock:
                seat.clear()

    def stop_idle(self, now_s: float) -> None:
        """End the hosts that were not used for the idle time; never waits for a busy one."""
        with self._lock:
            seats = list(self._seats.items())
        for ref, seat in seats:
            if seat.process is None or not seat.lock.acquire(blocking=False):
                continue
            try:
                if seat.process is not None and now_s - seat.used_at_s >= self._idle_s:
                    log.info("host_idle", function=ref)
                    seat.clear()
            finally:
                seat.lock.release()

    def stop(self) -> None:
        """End every host for good, busy ones too."""
        with self._lock:
            self._stopped.set()
            seats = list(self._seats.values())
        for seat in seats:
            process = seat.process
            if process is not None:
                process.kill()
            with seat.lock:
                seat.clear()

    def measures(self) -> Mapping[FunctionRef, Sequence[str]]:
        """What each host that runs is cut off from."""
        with self._lock:
            seats = list(self._seats.items())
        return {ref: seat.measures for ref, seat in seats if seat.process is not None}

    def pids(self) -> Mapping[FunctionRef, int]:
        """Process ids of the hosts that run."""
        with self._lock:
            seats = list(self._seats.items())
        return {ref: seat.process.pid for ref, seat in seats if seat.process is not None}

    def _run(
        self,
        function: Function,
        hook: str,
        calls: Sequence[HookCall],
        decode: Callable[[Any], Any],
    ) -> list[Any]:
        with self._lock:
            seat = self._seats.setdefault(function.ref, _Seat())
        batch = _Batch(function, hook, self._write_line, self._write_progress)
        results: list[Any] = []
        with seat.lock:
            while len(results) < len(calls):
                call = calls[len(results)]
                if results and time.time() >= call.deadline_s:
                    # only those behind one that broke the host: starting another took time
                    results.append(DeadlineExceeded(stage="hooks"))
                else:
                    results += self._some(seat, batch, calls[len(results) :], decode)
            seat.used_at_s = time.monotonic()
        return results

    def _some(
        self,
        seat: _Seat,
        batch: _Batch,
        calls: Sequence[HookCall],
        decode: Callable[[Any], Any],
    ) -> list[Any]:
        """Results of the first calls, up to and including the one that broke the host."""
        batch.calls = calls
        try:
            process = self._started(seat, batch)
        except FuseboxError as error:
            return [error] * len(calls)
        replies: list[Any] = []
        try:
            items = [call.item for call in calls]
            process.call(batch.hook, items, replies, batch.write, batch.progress)
        except HostEnded as ended:
            seat.clear()
            results = [batch.result(i, reply, decode) for i, reply in enumerate(replies)]
            return [*results, batch.broken(len(replies), ended)][: len(calls)]
        return [batch.result(i, reply, decode) for i, reply in enumerate(replies)]

    def _started(self, seat: _Seat, batch: _Batch) -> HostProcess:
        if seat.process is not None and seat.process.is_usable:
            return seat.process
        seat.clear()
        if self._stopped.wait(seat.start_in_s(time.monotonic())):
            raise Unavailable("The worker is stopping.")
        seat.started_at_s.append(time.monotonic())
        function = batch.function
        log.info("host_starts", function=function.ref)
        try:
            seat.process = self._open(function)
            reply = seat.process.wait_ready(batch.write_loading)
        except HostEnded as ended:
            seat.clear()
            raise batch.broken(None, ended) from ended
        except OSError as error:
            log.exception("host_start_failed", function=function.ref)
            raise HandlerFailed("The function's handler could not be started.") from error
        match reply:
            case ["ready", list(measures)]:
                seat.measures = [str(measure) for measure in measures]
                log.info("host_ready", function=function.ref, apart=",".join(seat.measures))
                return seat.process
        seat.clear()
        raise batch.result(None, reply, _decode_json)


def _open_host(artifacts: Path, limits: HostLimits, function: Function) -> HostProcess:
    if function.manifest.is_eager:
        # its hooks and its module are in one file, which imports torch
        limits = limits._replace(start_s=START_S)
    return HostProcess(artifacts / function.digest, function.manifest.inputs, limits)


class _Batch:
    """Turns what a host answers and prints into results and log lines."""

    def __init__(
        self,
        function: Function,
        hook: str,
        write_line: WriteLine,
        write_progress: WriteProgress = drop,
    ) -> None:
        self.function = function
        self.hook = hook
        self.calls: Sequence[HookCall] = ()
        self._write_line = write_line
        self._reported = Reported(write_progress)

    def progress(self, index: int, data: bytes) -> None:
        """What an item's postprocess yielded; raises HostEnded for what a host may not send."""
        if self.hook != "postprocess":
            raise HostEnded("sent progress of what has none")
        call = self.calls[index]
        self._reported.take(Claim(call.job, call.fence), data)

    def write(self, index: int, level: str, text: str) -> None:
        """A line that was printed while an item ran."""
        job = self.calls[index].job if index < len(self.calls) else ""
        self._write_line(self.function.ref, job, level, text)

    def write_loading(self, _index: int, level: str, text: str) -> None:
        """A line that was printed while the handler was imported."""
        self._write_line(self.function.ref, "", level, text)

    def result(self, index: int | None, reply: Any, decode: Callable[[Any], Any]) -> Any:
        """What an answer means; answers come from a process that is not trusted."""
        match reply:
            case ["ok", value] if index is not None:
                with suppress(RequestError, ValueError, TypeError, AttributeError):
                    return decode(value)
            case ["refused", str(), dict(record)]:
                if (error := self._refusal(record)) is not None:
                    return error
            case ["failed", str(reason), str(trace)]:
                self._write(index, "error", trace)
                return HandlerFailed(f"{self._where(index)}: {reason[:400]}")
        return HandlerFailed(f"{self._where(index)}: the handler's answer could not be read")

    def _refusal(self, record: dict[Any, Any]) -> RequestError | None:
        match record:
            case {"code": str(code), "detail": str(detail)}:
                if isinstance(error := BY_CODE.get(code, FuseboxError)(), InvalidInput):
                    detail = f"{self._where(0)}: {detail}"
                if isinstance(error, RequestError):
                    known = {key: str(record[key])[:200] for key in _SAID if key in record}
                    return type(error)(detail[:400], **known)
        return None

    def _where(self, index: int | None) -> str:
        return f"{self.function.ref} {self.hook if index is not None else 'handler.py'}"

    def broken(self, index: int | None, ended: HostEnded) -> FuseboxError:
        """The error of the call that ended the host."""
        text = f"{self._where(index)}: the handler {ended}"
        self._write(index, "error", text)
        return HandlerTimeout(text) if ended.is_timeout else HandlerFailed(text)

    def _write(self, index: int | None, level: str, text: str) -> None:
        if index is None:
            self.write_loading(0, level, text)
        else:
            self.write(index, level, text)


def _decode_tensors(value: Any) -> Tensors:
    return {str(name): decode_tensor(str(name), record) for name, record in value.items()}


def _decode_json(value: Any) -> Any:
    return orjson.loads(value)
