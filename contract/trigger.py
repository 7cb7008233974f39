"""A trigger: what calls a function by itself. Its definition, and how far it has come."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

GENERATION_CHARS = 16
# before the JSON of a definition, so that scripts need not read it
_ACTIVE, _PAUSED = "a", "p"


class Kind(StrEnum):
    """What makes a trigger fire."""

    CRON = "cron"  # times
    STREAM = "stream"  # entries of a Redis stream
    EVENT = "event"  # CloudEvents that were posted
    WATCH = "watch"  # files that are new in a folder


def new_generation() -> str:
    """Tells a definition from an earlier one of its name."""
    return secrets.token_hex(GENERATION_CHARS // 2)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A definition; it never changes but for being paused."""

    name: str
    generation: str
    kind: Kind
    # NAME or NAME@VERSION
    function: str
    # of its kind, as `gateway.triggers.definition` checked them
    options: Mapping[str, Any]
    # from an event to the input, JMESPath; "" passes the event's data
    input: str
    priority: int
    # goes on behind an event that the function does not take
    skips_bad: bool
    created_at_s: float
    is_paused: bool = False

    def encode(self) -> bytes:
        """Generation, whether it is paused, then JSON."""
        record = asdict(self)
        generation, is_paused = record.pop("generation"), record.pop("is_paused")
        return f"{generation}{_PAUSED if is_paused else _ACTIVE}{json.dumps(record)}".encode()

    @classmethod
    def decode(cls, data: bytes) -> Trigger:
        """The definition of `encode`."""
        text = data.decode()
        generation, flag = text[:GENERATION_CHARS], text[GENERATION_CHARS]
        record = json.loads(text[GENERATION_CHARS + 1 :])
        record["kind"] = Kind(record["kind"])
        return cls(generation=generation, is_paused=flag == _PAUSED, **record)

    @property
    def group(self) -> str:
        """The consumer group of a stream trigger."""
        return f"fusebox:{self.name}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a trigger has come, and why it does not go on. Times are Unix seconds, 0: never."""

    # cron: the last tick that was dealt with; watch: when what was there already was noted
    at_s: float = 0.0
    # calls that it made, events that it passed over
    fired: int = 0
    skipped: int = 0
    last_job: str = ""
    last_at_s: float = 0.0
    # {code, detail} as JSON, "" where the last attempt went well
    error: str = ""
    failures: int = 0
    retry_at_s: float = 0.0

    @classmethod
    def decode(cls, fields: Mapping[bytes, bytes]) -> Progress:
        """The progress of the fields of its hash; those of newer processes are left out."""
        found: dict[str, Any] = {
            name: kind(value.decode())
            for name, kind in _KINDS.items()
            if (value := fields.get(name.encode())) is not None
        }
        return cls(**found)


_KINDS: Mapping[str, type[float] | type[int] | type[str]] = {
    "at_s": float,
    "fired": int,
    "skipped": int,
    "last_job": str,
    "last_at_s": float,
    "error": str,
    "failures": int,
    "retry_at_s": float,
}
