"""Whom a group waits for: functions whose hooks are quick."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import Generic, NamedTuple, TypeVar

from contract.function import FunctionRef

T = TypeVar("T")
# A group waits this long for the hooks of its functions; others' answers are late by that.
PATIENCE_S = 0.02
# What a slow batch leaves of its time with every one after it: trust comes back slowly.
MEMORY = 0.8


class Split(NamedTuple, Generic[T]):
    """Work of several functions, those that are through and those the group goes on without."""

    done: list[T]
    behind: dict[FunctionRef, Future[T]]


class Paces:
    """How long each function's hooks took of late; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[FunctionRef, float] = {}

    def note(self, function: FunctionRef, seconds: float) -> None:
        """A batch of its hooks took this long; the first one started their process, and is let go.

        What it took says nothing of the next.
        """
        with self._lock:
            before = self._seconds.get(function)
            self._seconds[function] = 0.0 if before is None else max(seconds, MEMORY * before)

    def clear(self) -> None:
        """Forget everything: it is learned again from the next batches."""
        with self._lock:
            self._seconds.clear()

    def is_slow(self, function: FunctionRef) -> bool:
        """Whether others should not wait for it at all."""
        return self._seconds.get(function, 0.0) > PATIENCE_S

    def split(self, work: Mapping[FunctionRef, Future[T]]) -> Split[T]:
        """Wait for the quick ones, a while; raises what a finished one raised."""
        wait([future for ref, future in work.items() if not self.is_slow(ref)], PATIENCE_S)
        ready = {ref for ref, future in work.items() if future.done()}
        done = [future.result() for ref, future in work.items() if ref in ready]
        return Split(done, {ref: future for ref, future in work.items() if ref not in ready})
