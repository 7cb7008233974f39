"""Models in blocks at a fraction of their bytes, against the same models with all of their weights.

Whole and in blocks take turns in one process, one row, one thread that computes. `cold`: the page
cache has dropped the file before each run; `warm`: it has all of it. A run finds in the ring what
was read ahead at the end of the run before; `without a pause` is the mean of two runs of which the
second finds nothing that the first has not had the time to read, `from nothing` loads first, and
`reading alone` is what the disk takes for what each run reads: without a pause none can be faster.
Plans are those that a worker has come to after some runs that had to read; `least for this budget`
is what no plan can go below, by the times it was planned with: what does not fit when a layer
begins is read after those before it. `peak of weights`: pages that a process has of the ring, of
what stays and of the file, the most after any step of four runs, cold and warm; beside it what the
process grew by with its activations, having computed the same with all weights before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

from _block_models import MODELS, SMALL_MODELS, BlockModel
from _intervals import ratio_interval
from _plot import line_plot
from _report import Row, finish

HERE = Path(__file__).resolve().parent
# of the bytes of the weights
FRACTIONS = (2.32, 5.81)
SWEEP = (1.0, 0.8, 0.6, 1 / 2.32, 1 / 3, 1 / 4, 1 / 6)
# seconds of a case, and where its ratio stays open
FULL, QUICK, SWEPT = (10.0, 20.0), (0.5, 1.0), (2.0, 2.0)
TOLERANCE = 1e-4


class Prepared(NamedTuple):
    """A model on disk."""

    model: BlockModel
    folder: Path
    weight_bytes: int

    def ask(self, kind: str, *words: object) -> dict[str, Any]:
        """What a process of its own measures."""
        return _ask(kind, str(self.folder), *map(str, words))


def _ask(*words: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "_block_process.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found


def prepare(model: BlockModel, folder: Path) -> Prepared:
    """Export it, in a process whose memory goes with it."""
    folder.mkdir()
    _ask("prepare", model.name, str(folder))
    return Prepared(model, folder, (folder / "whole.bin").stat().st_size)


def fraction_rows(made: Prepared, fraction: float, seconds: tuple[float, float]) -> Iterator[Row]:
    """Latencies and the peak at one budget."""
    budget_bytes = int(made.weight_bytes / fraction)
    case = f"{made.model.name} at 1/{fraction:g}"
    for state, bar in (("cold", made.model.cold_bar), ("warm", made.model.warm_bar)):
        found = made.ask("time", budget_bytes, state, *seconds)
        runs_s = found["runs_s"]
        interval = ratio_interval(runs_s["blocks"], runs_s["whole"])
        yield Row(f"{case}, {state}: blocks / whole", _ratio(runs_s), "x", bar, False, interval)
        twice = _ratio(runs_s, "twice") / 2
        yield Row(f"{case}, {state}: without a pause / whole", twice, "x")
        yield Row(f"{case}, {state}: from nothing / whole", _ratio(runs_s, "anew"), "x")
        if state == "cold":
            reading = found["reading_s"] / median(runs_s["whole"])
            yield Row(f"{case}, {state}: reading alone / whole", reading, "x")
            for key, what in (("planned_s", "planned"), ("least_s", "least for this budget")):
                yield Row(f"{case}: {what} / whole", found[key] / median(runs_s["whole"]), "x")
            yield Row(f"{case}: planned by measured times", float(found["is_measured"]), "")
        yield Row(f"{case}, {state}: whole", median(runs_s["whole"]) * 1e3, "ms")
        different = found["difference"]
        yield Row(f"{case}, {state}: relative difference", different, "", TOLERANCE, False)
    for key in ("ring_bytes", "resident_bytes", "read_bytes"):
        yield Row(f"{case}: {key.removesuffix('_bytes')}", found[key] / 1e6, "MB")
    yield Row(f"{case}: blocks", found["blocks"], "")
    peak = made.ask("peak", budget_bytes)
    bar = budget_bytes / 1e6
    yield Row(f"{case}: peak of weights", peak["weight_bytes"] / 1e6, "MB", bar, False)
    yield Row(f"{case}: growth of the process", peak["growth_bytes"] / 1e6, "MB")


def sweep(made: Prepared, seconds: tuple[float, float]) -> Iterator[tuple[str, float, float]]:
    """(state, share of the bytes, ratio) from all of them down to a sixth."""
    for share in SWEEP:
        for state in ("cold", "warm"):
            budget_bytes = int(made.weight_bytes * share)
            found = made.ask("time", budget_bytes, state, *seconds)
            yield state, share, _ratio(found["runs_s"])


def _ratio(runs_s: dict[str, list[float]], name: str = "blocks") -> float:
    return median(runs_s[name]) / median(runs_s["whole"])


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models, a minute")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    parser.add_argument("--only", metavar="TEXT", default="", help="models whose name has this")
    parser.add_argument("--plot", metavar="FILE", help="also sweep the budget, and draw it here")
    options = parser.parse_args(words)
    seconds = QUICK if options.quick else FULL
    models = [m for m in (SMALL_MODELS if options.quick else MODELS) if options.only in m.name]
    rows: list[Row] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    # beside the results: a folder in memory would have no cold files
    with tempfile.TemporaryDirectory(dir=HERE / "results") as folder:
        for k, model in enumerate(models):
            made = prepare(model, Path(folder) / str(k))
            for fraction in FRACTIONS:
                rows += fraction_rows(made, fraction, seconds)
            for state, share, ratio in sweep(made, min(SWEPT, seconds)) if options.plot else ():
                lines.setdefault(f"{model.name}, {state}", []).append((share, ratio))
                rows.append(Row(f"{model.name}, budget {share:.2f}, {state}", ratio, "x"))
    if options.plot:
        title = "Latency in blocks over latency with all weights resident"
        line_plot(options.plot, title, "budget / bytes of weights", "ratio", lines)
    return finish(rows, "Models in blocks, one compute thread", options.json)


if __name__ == "__main__":
    sys.exit(main())
