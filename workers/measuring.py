"""What runs have measured is kept over restarts, and said in reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from contract.log import Log
from fusion.dag import FusedDag
from fusion.measurements import HotGroup, Measurements
from workers.library import Library

log = Log("measuring")

# between two writes
SAVE_S = 10.0
# functions whose tiers reports show
SHOWN = 64


class Measuring:
    """`look` is called now and then, by one thread; `save` at the end."""

    def __init__(
        self,
        measurements: Measurements,
        library: Library,
        dags: Callable[[], Iterable[FusedDag]],
        hot: Callable[[], list[HotGroup]],
        clock: Callable[[], float],
    ) -> None:
        self._measurements = measurements
        self._library = library
        self._dags = dags
        self._hot = hot
        self._clock = clock
        self._saved_s = clock()

    def look(self) -> None:
        """Write what is new, not too often."""
        if self._clock() - self._saved_s >= SAVE_S:
            self.save()

    def tiers(self) -> dict[str, dict[str, dict[str, float]]]:
        """By function and rows, milliseconds of each tier, for people."""
        return {
            key: {
                str(rows): in_ms(seconds)
                for program in programs
                for rows, seconds in sorted(program.tiers.measured().items())
            }
            for key, programs in self._library.newest(SHOWN)
        }

    def save(self) -> None:
        """Collect and write."""
        self._saved_s = self._clock()
        fused_dags = list(self._dags())
        merged = [program for fused in fused_dags for program in fused.merged_programs]
        for program in (*self._library.programs(), *merged):
            measured = program.tiers.measured()
            if measured:
                self._measurements.note_tiers(program.graph.architecture, measured)
        for fused in fused_dags:
            if fused.choice.is_open and fused.choice.is_settled:
                self._measurements.note_group(fused.key.digest, fused.measured)
        self._measurements.note_hot(self._hot())
        try:
            self._measurements.save()
        except OSError:  # a full disk: it is measured again, or written later
            log.exception("measurements_not_saved")


def in_ms(seconds: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds with three digits or so, for people."""
    return {name: float(f"{value * 1e3:.4g}") for name, value in seconds.items()}
