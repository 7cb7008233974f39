"""What the user says on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:8080"
URL_VARIABLE = "FUSEBOX_URL"
# The command line takes keys from the environment alone: arguments are seen by every process.
API_KEY_VARIABLE = "FUSEBOX_API_KEY"


@dataclass(frozen=True)
class Options:
    """The options of `fusebox deploy`. `keep_alive_s`: 0 evicts when idle, -1 pins.

    `eager`: what cannot become a graph runs as it is.
    """

    name: str | None = None
    slo_ms: float | None = None
    timeout_ms: float = 60_000.0
    max_batch: int = 32
    keep_alive_s: float | None = None
    include: tuple[Path, ...] = ()
    eager: bool = True
    on_success: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()
