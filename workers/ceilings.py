"""How many rows run at once where more have run out of memory; remembered over restarts.

Known by architecture: what a run needs beside weights depends on the graph and its rows alone.
"""

from __future__ import annotations

from contract.function import Manifest
from contract.log import Log
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
