"""W3C Trace Context: which trace a call belongs to, read and written by the letter.

https://www.w3.org/TR/trace-context-2/. Pure: ids are made by whoever calls.
"""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

SAMPLED, RANDOM = 0x01, 0x02
_KNOWN_FLAGS = SAMPLED | RANDOM
MAX_MEMBERS = 32
# The specification asks for 512 at least; members go as a whole, the long ones first.
MAX_STATE_CHARS, LONG_MEMBER_CHARS = 2_048, 128
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_KEY = r"[a-z0-9][a-z0-9_\-*/@]{0,255}"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rf"({_KEY})=({_VALUE})")
_BLANKS = " \t"


class TraceContext(NamedTuple):
    """A place in a trace; ids in lower-case hexadecimal."""

    # 32 digits
    trace_id: str
    # 16 digits: the span that whatever follows is a child of
    span_id: str
    flags: int = 0
    # tracestate, as others wrote it
    state: str = ""

    @property
    def traceparent(self) -> str:
        """As the header has it."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def is_sampled(self) -> bool:
        """Whether whoever began the trace keeps it."""
        return bool(self.flags & SAMPLED)

    def child(self, span_id: str) -> TraceContext:
        """The same trace, below another span."""
        return self._replace(span_id=span_id)


def parse(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """The context of the two headers; None where the trace has to be begun anew.

    Several fields of one name come joined by commas: two `traceparent` are none. A `tracestate`
    that is not understood is dropped alone.
    """
    match = _PARENT.fullmatch(traceparent.strip(_BLANKS))
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if not (trace_id.strip("0") and span_id.strip("0")):
        return None
    # what later versions add is not passed on: this is written as version 00
    known = int(flags, 16) & _KNOWN_FLAGS
    return TraceContext(trace_id, span_id, known, parse_state(tracestate))


def parse_state(tracestate: str) -> str:
    """The members of `tracestate`, cut to what is passed on; "" where one is not as it must be."""
    members: dict[str, str] = {}
    for text in tracestate.split(","):
        member = text.strip(_BLANKS)
        if not member:
            continue
        match = _MEMBER.fullmatch(member)
        if match is None or match[1] in members:
            return ""
        members[match[1]] = member
    if len(members) > MAX_MEMBERS:
        return ""
    return _cut([*members.values()])


def new_trace(flags: int = RANDOM) -> TraceContext:
    """A trace that begins here, its ids random."""
    return TraceContext(_random_id(16), new_span_id(), flags)


def new_span_id() -> str:
    """Of a span of ours."""
    return _random_id(8)


def _random_id(size_bytes: int) -> str:
    # all zeros is no id
    return secrets.token_hex(size_bytes - 1) + f"{1 + secrets.randbelow(255):02x}"


def _cut(members: list[str]) -> str:
    """The members within the bound: long ones go first, then those at the end."""
    size = len(",".join(members))
    long = [member for member in members if len(member) > LONG_MEMBER_CHARS]
    for member in (*reversed(long), *reversed(members)):
        if size <= MAX_STATE_CHARS:
            break
        if member in members:
            members = [other for other in members if other != member]
            size = len(",".join(members))
    return ",".join(members)
