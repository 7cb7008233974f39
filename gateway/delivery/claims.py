"""Idempotency keys of the platform itself, for calls that it may repeat."""

from __future__ import annotations

import hashlib

from contract.job import IdempotencyClaim


def own_claim(*parts: str) -> IdempotencyClaim:
    """The claim of a call that has one cause, named by these words."""
    # callers' claims begin with the id of an API key or with nothing, and have one NUL after it
    text = "\0".join(("", "", *parts)).encode()
    return IdempotencyClaim(hashlib.sha256(text).hexdigest(), hashlib.sha256(b"").hexdigest())
