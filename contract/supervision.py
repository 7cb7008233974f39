"""What a process may tell the supervisor that started it.

A supervisor that listens passes the write end of a pipe and names it in `FUSEBOX_SUPERVISOR_FD`;
each message is a line, one `Word`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum

VARIABLE = "FUSEBOX_SUPERVISOR_FD"


class Word(StrEnum):
    """A message."""

    # it does its work from here on
    READY = "ready"
    # start another of the same; stop this one when the other is ready
    REPLACE = "replace"


def tell(environ: Mapping[str, str], word: Word) -> bool:
    """Tell the supervisor; whether one listens."""
    fd = environ.get(VARIABLE, "")
    if not fd.isdecimal():
        return False
    try:
        os.write(int(fd), f"{word}\n".encode())
    except (BrokenPipeError, BlockingIOError):
        # it is gone, or reads no longer
        return False
    return True
