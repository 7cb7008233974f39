"""How many rows run at once where more have run out of memory; remembered over restarts.

Known by architecture: what a run needs beside weights depends on the graph and its rows alone.
"""

from __future__ import annotations

from contract.errors import OutOfMemory
from contract.function import FunctionRef, Manifest
from contract.log import Log
from fusion.allocation import is_out_of_memory
from fusion.errors import MemberError
from fusion.measurements import Measurements

log = Log("ceilings")
# architectures that reports show, the newest
SHOWN = 64


class Ceilings:
    """Thread-safe, as `Measurements` is."""

    def __init__(self, measurements: Measurements) -> None:
        self._measurements = measurements

    def most_rows(self, manifest: Manifest) -> int:
        """Rows that jobs are joined up to; a single job may have more, and is tried."""
        ceiling = self._measurements.ceiling(manifest.architecture)
        return manifest.max_batch if ceiling is None else min(ceiling, manifest.max_batch)

    def lower(self, manifest: Manifest, failed_rows: int) -> int:
        """So many rows ran out of memory; the new ceiling, half of them, which is kept on disk."""
        ceiling = max(1, min(failed_rows // 2, self.most_rows(manifest)))
        self._measurements.note_ceiling(manifest.architecture, ceiling)
        try:
            # at once: what comes next may end the process
            self._measurements.save()
        except OSError:
            log.exception("ceiling_not_saved", architecture=manifest.architecture)
        return ceiling

    def shown(self) -> dict[str, int]:
        """Rows by architecture, for people."""
        return dict([*self._measurements.ceilings().items()][-SHOWN:])


def lacked_memory(error: BaseException) -> bool:
    """Whether a run, or one member of it, failed for want of memory."""
    cause = error.__cause__ if isinstance(error, MemberError) else error
    return cause is not None and is_out_of_memory(cause)


def too_large(function: FunctionRef, rows: int) -> OutOfMemory:
    """What a job is told that lacked memory by itself."""
    computed = f"{rows} rows at once; call it with fewer" if rows > 1 else "one row"
    said = f"The device ran out of memory while {function} computed {computed}."
    return OutOfMemory(said, rows=rows)
