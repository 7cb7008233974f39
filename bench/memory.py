"""How much less memory do fused models take than models loaded separately?

Peaks of the same models, four rows each, as the kernel counts them while every process is alive:
  fused        all in one process, as a worker runs them: mapped weights, one fused DAG
  separate     one process per model, PyTorch in eager mode: what a process per function would take
  together     all in one process, PyTorch in eager mode

The peak of a process is its Pss (pages that processes share are split among them, so that they
count once) and what its VmHWM was above its VmRSS. Of it
  context      was there before any model: libraries, warmed up, and for `fused` all of a worker
  weights      are the bytes of resident tensors
  activations  and the workspace of operators, generated code, the heap: the rest
What only loading took is given back and not counted. On CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

from _report import Row, finish

BAR = 0.7  # 30 % less than loaded separately
BARS = {"8 different models": BAR, "8 small models": BAR}
SETS = (*BARS, "4 different models, 4 heads on one ResNet-18", "8 heads on one ResNet-18")
QUICK_SETS = ("2 small models",)
PROCESS = Path(__file__).resolve().with_name("_memory_process.py")
KIB, MB = 1024, 1e6


class Peak(NamedTuple):
    """Bytes of one or several processes at their peak."""

    context: float
    weights: float
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def main() -> int:
    """Measure every set and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small models")
    parser.add_argument("--only", default="", metavar="TEXT", help="sets whose names have it")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in QUICK_SETS if options.quick else SETS:
        if options.only in name:
            with tempfile.TemporaryDirectory() as folder:
                rows += _measure(name, folder)
    return finish(rows, "Peak memory of fused models against separate ones", options.json)


def _measure(name: str, folder: str) -> list[Row]:
    print(f"exporting {name}", file=sys.stderr)
    subprocess.run([sys.executable, str(PROCESS), "prepare", name, folder], check=True)
    models = sorted(path.name for path in Path(folder).iterdir())
    eager = ["eager", name, folder]
    peaks = {
        "fused": _peak([["fused", name, folder]]),
        "separate": _peak([[*eager, model] for model in models]),
        "together": _peak([[*eager, *models]]),
    }
    fused = peaks["fused"]
    rows = [
        Row(f"{name}: {way}, {part}", value / MB, "MB")
        for way, peak in peaks.items()
        for part, value in {**peak._asdict(), "total": peak.total}.items()
    ]
    for way in ("separate", "together"):
        bar = BARS.get(name) if way == "separate" else None
        share = fused.total / peaks[way].total
        rows.append(Row(f"{name}: fused / {way}", share, "x", bar, higher_is_better=False))
        rows += [
            Row(f"{name}: fused / {way}, {part}", value / getattr(peaks[way], part), "x")
            for part, value in fused._asdict().items()
        ]
    return rows


def _peak(commands: Sequence[Sequence[str]]) -> Peak:
    """Of processes that are all alive at each stage."""
    with _started(commands) as processes:
        _all_at(processes, "context")
        context = sum(_pss_bytes(process.pid) for process in processes)
        _go_on(processes)
        _all_at(processes, "loaded")
        _go_on(processes)
        weights = sum(_all_at(processes, "ran"))
        total = sum(_peak_bytes(process.pid) for process in processes)
        _go_on(processes)
    return Peak(context, weights, total - context - weights)


Process = subprocess.Popen[str]


@contextmanager
def _started(commands: Sequence[Sequence[str]]) -> Iterator[list[Process]]:
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([sys.executable, str(PROCESS), *c], stdin=pipe, stdout=pipe, text=True)
        for c in commands
    ]
    try:
        yield processes
        codes = [process.wait() for process in processes]
        if any(codes):
            raise RuntimeError(f"processes to measure ended with {codes}, expected 0")
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _all_at(processes: Sequence[Process], stage: str) -> list[int]:
    """Wait until all are there; bytes of the weights that each holds."""
    found = []
    for process in processes:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{process.args} ended before {stage!r}")
        said = json.loads(line)
        assert said["stage"] == stage, said
        found.append(said["weight_bytes"])
    return found


def _go_on(processes: Sequence[Process]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def _pss_bytes(pid: int) -> int:
    return _kernel_bytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss")


def _peak_bytes(pid: int) -> int:
    """Of a process since it forgot its earlier peak."""
    status = Path(f"/proc/{pid}/status")
    above = _kernel_bytes(status, "VmHWM") - _kernel_bytes(status, "VmRSS")
    return _pss_bytes(pid) + above


def _kernel_bytes(path: Path, field: str) -> int:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * KIB
    raise OSError(f"{path} has no {field}")


if __name__ == "__main__":
    sys.exit(main())
