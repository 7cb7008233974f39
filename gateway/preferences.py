"""What a client prefers: `Prefer` (RFC 7240) and `Accept` (RFC 9110)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_list_header

from contract.errors import InvalidInput, NotAcceptable
from contract.function import Manifest
from contract.job import MAX_PRIORITY
from gateway.answer import JSON

MSGPACK = "application/msgpack"
NPY = "application/x-npy"
NPZ = "application/x-npz"
# Headers come from clients: remember some, never all.
MAX_STICKY_CHARS = 256
REMEMBERED = 256
# one digit
assert MAX_PRIORITY == 9


class Prefer(NamedTuple):
    """The preferences this gateway knows; others are ignored, as RFC 7240 asks."""

    is_async: bool = False
    wait_s: float | None = None

    @property
    def is_given(self) -> bool:
        """Whether the client accepts 202 in place of a result."""
        return self.is_async or self.wait_s is not None

    def applied(self) -> str:
        """The value of `Preference-Applied`."""
        words = ["respond-async"] if self.is_async else []
        if self.wait_s is not None:
            words.append(f"wait={self.wait_s:g}")
        return ", ".join(words)


NO_PREFERENCE = Prefer()


@lru_cache(REMEMBERED)
def parse_prefer(header: str, max_wait_s: float) -> Prefer:
    """The known preferences of a header; of one given twice the first counts."""
    found: dict[str, str] = {}
    for item in parse_list_header(header):
        name, _, value = item.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return Prefer("respond-async" in found, _seconds(found.get("wait", ""), max_wait_s))


def _seconds(text: str, max_s: float) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return min(seconds, max_s) if math.isfinite(seconds) and seconds >= 0 else None


def parse_priority(header: str) -> int:
    """The value of `Fusebox-Priority`; raises InvalidInput."""
    if not (header.isascii() and header.isdigit() and len(header) == 1):
        expected = f"a whole number from 0 to {MAX_PRIORITY}"
        raise InvalidInput.of("Fusebox-Priority", expected, repr(header[:100]))
    return int(header)


def parse_sticky(header: str) -> str:
    """The key of `Fusebox-Sticky`, or ""; raises InvalidInput."""
    if len(header) > MAX_STICKY_CHARS:
        expected = f"at most {MAX_STICKY_CHARS} characters"
        raise InvalidInput.of("Fusebox-Sticky", expected, f"{len(header)} of them")
    return header


def offers(manifest: Manifest) -> tuple[str, ...]:
    """The types that an answer of this function exists in, best first."""
    if manifest.has_postprocess:
        return JSON, MSGPACK
    if len(manifest.outputs) == 1:
        return JSON, MSGPACK, NPZ, NPY
    return JSON, MSGPACK, NPZ


@lru_cache(REMEMBERED)
def negotiate(accept: str, offered: tuple[str, ...]) -> str:
    """The offered type that `Accept` likes best; raises NotAcceptable."""
    if not accept:
        return offered[0]
    best = parse_accept_header(accept, MIMEAccept).best_match(offered)
    if best is None:
        raise NotAcceptable(f"Accept: expected one of {', '.join(offered)}, got {accept[:200]!r}")
    return best
