"""How much less memory do siblings take: fine-tuned models with one backbone?

Eight ResNet-18 with the same backbone and a head each, on a CPU, in processes that measure
themselves (resident set, from before the first is loaded until all are):
  shared    all in one slot table, as a worker holds them: identical tensors are there once
  separate  each in a slot table of its own: mapped in the same way, and nothing shared
  eager     as PyTorch modules
Each sibling's outputs are compared with its module's. Bytes on disk are blocks that the files take
as they are written; a gateway lets files share them where the file system can.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

from _intervals import ratio_interval
from _report import Row, finish

SIBLINGS, QUICK_SIBLINGS = 8, 3
ROUNDS, QUICK_ROUNDS = 5, 1
FEWER = 0.25  # 75 % fewer bytes than separately
WAYS = ("shared", "separate", "eager")
# folding of batch norms, other kernels
MOST_ERROR = 1e-3
PROCESS = Path(__file__).resolve().with_name("_siblings_process.py")
MB = 1e6


def main() -> int:
    """Measure every way in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three siblings, one round, no bar")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()
    count, rounds = (QUICK_SIBLINGS, QUICK_ROUNDS) if options.quick else (SIBLINGS, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        print(f"exporting {count} siblings", file=sys.stderr)
        _run("prepare", folder, str(count))
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way in WAYS:
                found[way].append(json.loads(_run(way, folder)))
        files = [path / "weights.safetensors" for path in Path(folder).iterdir()]
        disk_bytes = sum(path.stat().st_blocks * 512 for path in files)
    rows = [
        *_rows(found, None if options.quick else FEWER),
        Row("files, as written", disk_bytes / MB, "MB"),
    ]
    return finish(rows, f"{count} siblings with one backbone", options.json)


def _rows(found: dict[str, list[dict[str, float]]], bar: float | None) -> list[Row]:
    grown = {way: [said["grown"] for said in its] for way, its in found.items()}
    rows = [Row(f"growth, {way}", median(grown[way]) / MB, "MB") for way in WAYS]
    for way in ("separate", "eager"):
        interval = ratio_interval(grown["shared"], grown[way])
        share = median(grown["shared"]) / median(grown[way])
        rows.append(Row(f"growth, shared / {way}", share, "x", bar, False, interval))
    accounted = [said["accounted"] for said in found["shared"]]
    its = ratio_interval(grown["shared"], accounted)
    over = median(grown["shared"]) / median(accounted)
    rows.append(Row("shared: growth / accounted", over, "x", None, False, its))
    worst = max(said["error"] for its in found.values() for said in its)
    rows.append(Row("largest difference from the modules", worst, "", MOST_ERROR, False))
    return rows


def _run(*arguments: str) -> str:
    command = [sys.executable, str(PROCESS), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
