"""Inside a handler host: a postprocess that yields reports its progress.

Each yield but the last is progress, the last is the result; so a value is sent when the next one
comes. Where the generator returns something, that is the result, and every yield was progress.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from contract.events import MAX_PROGRESS, MAX_PROGRESS_BYTES, MAX_PROGRESS_TOTAL_BYTES
from workers.handlers.frames import pack_frame
from workers.handlers.values import encode_result

_NOTHING = object()


def drive(returned: Any, report: Callable[[Any], None]) -> Any:
    """The result: what was returned, or what a generator ends with, once the rest is reported."""
    if not isinstance(returned, GeneratorType):
        return returned
    held: Any = _NOTHING
    try:
        while True:
            try:
                value = next(returned)
            except StopIteration as end:
                returns = end.value
                break
            if held is not _NOTHING:
                report(held)
            held = value
    finally:
        returned.close()
    if returns is None:
        return None if held is _NOTHING else held
    if held is not _NOTHING:
        report(held)
    return returns


class Reports:
    """Progress on its way to the worker, bounded in number and bytes for each job."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.begin([])

    def begin(self, head: list[Any]) -> None:
        """What is reported from here on belongs to another item of the batch."""
        self._head = head
        self._count = self._bytes = 0

    def send(self, value: Any) -> None:
        """Send one value as JSON; raises ValueError and TypeError for what is not taken."""
        data = encode_result(value)
        self._count += 1
        self._bytes += len(data)
        if len(data) > MAX_PROGRESS_BYTES:
            raise ValueError(f"yielded {len(data)} bytes, at most {MAX_PROGRESS_BYTES} are taken")
        if self._count > MAX_PROGRESS or self._bytes > MAX_PROGRESS_TOTAL_BYTES:
            most = f"{MAX_PROGRESS} times and {MAX_PROGRESS_TOTAL_BYTES} bytes"
            raise ValueError(f"yielded more than is taken before a result: at most {most}")
        self._channel.sendall(pack_frame([*self._head, ["progress", data]]))
