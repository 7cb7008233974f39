"""How long runs of a model took where it was deployed from: times of that machine, by rows.

They travel beside the artifact, in a header: an artifact is the same wherever it was made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from contract.errors import RequestError

HEADER = "Fusebox-Compute-Ms"
MOST_ROWS, MOST_MS, MOST_PROBES = 65536, 3_600_000.0, 16
_PROBE = re.compile(r"([1-9][0-9]{0,4})=([0-9]{1,7}(?:\.[0-9]{1,6})?)")


def format_probe(compute_ms: Mapping[int, float]) -> str:
    """Rows and milliseconds: `1=0.52, 8=3.1`."""
    return ", ".join(f"{rows}={ms:.6f}" for rows, ms in sorted(compute_ms.items()))


def parse_probe(header: str) -> dict[int, float]:
    """What `format_probe` wrote, nothing of an empty header; raises RequestError."""
    parts = [part.strip() for part in header.split(",")] if header.strip() else []
    found = [_PROBE.fullmatch(part) for part in parts]
    probe = {int(match[1]): float(match[2]) for match in found if match}
    if (
        len(probe) != len(parts)
        or len(parts) > MOST_PROBES
        or any(rows > MOST_ROWS or ms > MOST_MS for rows, ms in probe.items())
    ):
        raise RequestError(
            f"{HEADER}: expected at most {MOST_PROBES} of ROWS=MILLISECONDS, as in "
            f"'1=0.52, 8=3.1', got {header[:100]!r}"
        )
    return probe
