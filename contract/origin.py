"""Where a call came from, and who hears of its end: what travels with a job beside its spec."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import msgpack

# A chain of functions that call each other by their results ends here.
MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Origin:
    """The circumstances of one call; all fields have a default, and only others are stored."""

    # W3C trace context of the call: the gateway's own span is the parent
    traceparent: str = ""
    tracestate: str = ""
    # the alias that the version was chosen by
    alias: str = ""
    # what made this call: `job:<id>`, `trigger:<name>`, `event:<source> <id>`, `dlq:<id>`
    cause: str = ""
    # calls before this one in a chain of functions
    depth: int = 0
    # destinations, as `contract.destinations` writes them: of a result, of any other end
    on_success: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()
    # a call that fails for good is kept with its payload, as nobody waits for its answer
    is_kept: bool = False

    @property
    def is_told(self) -> bool:
        """Whether somebody may hear of its end, so that it may go through the outbox."""
        return bool(self.on_success or self.on_failure or self.is_kept)

    @property
    def told(self) -> str:
        """Which ends go through the outbox, as scripts read it: `s` success, `f` any other."""
        return ("s" if self.on_success else "") + ("f" if self.on_failure or self.is_kept else "")

    def encode(self) -> bytes:
        """msgpack map of the fields that are not at their default; b"" where all are."""
        said = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
        if not said:
            return b""
        packed = msgpack.packb(said)
        assert isinstance(packed, bytes)
        return packed

    @classmethod
    def decode(cls, data: bytes) -> Origin:
        """The origin of `encode`; fields of newer processes are left out."""
        if not data:
            return NOWHERE
        known = {field.name for field in fields(cls)}
        record: dict[str, Any] = msgpack.unpackb(data, use_list=False)
        return cls(**{name: value for name, value in record.items() if name in known})


# a plain call of which nobody else hears
NOWHERE = Origin()
