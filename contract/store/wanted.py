"""Where weights should be: what operators asked for by name, and how far a worker has come.

The hash is the desired state. Workers read it with every heartbeat, and say in their reports what
they have made of it; a worker that starts later finds what is to be loaded there too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from contract import keys
from contract.errors import RequestError, UnknownFunction
from contract.function import FunctionRef
from contract.store.server import Server, store_errors

# versions with a want at once
MOST = 1024
# A worker whose heartbeats fail for longer than this may miss an unload.
UNLOAD_REMEMBERED_S = 600.0


class Place(StrEnum):
    """Where an operator wants a version's weights."""

    LOADED = "loaded"  # in a slot of every worker, and not to leave for others
    UNLOADED = "unloaded"  # out of all slots, once; the next job brings them in again


class Want(NamedTuple):
    """What is wanted of one version; a newer want has a higher number."""

    ref: FunctionRef
    number: int
    place: Place


class Progress(StrEnum):
    """How far one worker is with a want."""

    UNDER_WAY = "under_way"  # it waits for room, for its weights, or for groups that hold it
    DONE = "done"
    FAILED = "failed"  # and is not tried again; the report says why


@dataclass(frozen=True)
class WantReport:
    """What a worker has made of the want with this number."""

    number: int
    progress: str
    # of the error that it failed with, as `FuseboxError.encode` has them
    code: str = ""
    detail: str = ""


class Wanted:
    """The wants of the store."""

    def __init__(
        self, server: Server, most: int = MOST, remembered_s: float = UNLOAD_REMEMBERED_S
    ) -> None:
        self._server = server
        self._most = most
        self._remembered_s = remembered_s

    def want(self, ref: FunctionRef, place: Place) -> Want:
        """Note a want for a version, the latest for version 0; raises UnknownFunction.

        RequestError where as many other versions as may have one.
        """
        version, number = self._server.run(
            "want",
            [ref.name, ref.version, str(place), time.time(), self._remembered_s, self._most],
        )
        if version == 0:
            raise UnknownFunction(f"No function {ref} is deployed.", function=str(ref))
        if version < 0:
            raise RequestError(
                f"load: {self._most} versions are loaded by name already; unload some"
            )
        return Want(FunctionRef(ref.name, version), number, place)

    def withdraw(self, want: Want) -> None:
        """Take it back, unless a newer one has replaced it."""
        self._server.run("unwant", [str(want.ref), want.number])

    def all(self) -> list[Want]:
        """Every want."""
        with store_errors():
            found: Any = self._server.redis.hgetall(keys.WANTED)
        return [_decode(field.decode(), value.decode()) for field, value in found.items()]


def _decode(ref: str, value: str) -> Want:
    number, place, _ = value.split(" ")
    return Want(FunctionRef.parse(ref), int(number), Place(place))
