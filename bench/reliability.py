"""Faults under load, several rounds: the table of docs/reliability.md, made by the tests.

Each round runs tests/e2e/faults; each test adds a line of JSON for the fault it injected. A fault
under which a job is lost or settles twice, or that takes longer than 15 s to recover from, fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench._report import Row, environment, finish

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
RECOVERY_BAR_S = 15.0


class Fault(NamedTuple):
    """What all rounds together showed of one fault."""

    name: str
    injected: int
    accepted: int
    lost: int
    settled_twice: int
    recovery_s: float
    slowest_s: float


def main() -> int:
    """Run the rounds, write the table; 1 when a test or a bar fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        records = Path(folder) / "records.jsonl"
        failed = sum(_round(records) != 0 for _ in range(options.rounds))
        faults = summarise([json.loads(line) for line in records.read_text().splitlines()])
    text = table(faults, options.rounds)
    options.page.write_text(with_table(options.page.read_text(), text))
    if failed:
        print(f"{failed} of {options.rounds} rounds had a test that failed")
    missed = finish(_rows(faults), "reliability: faults under load")
    return 1 if failed else missed


def summarise(records: Sequence[dict[str, Any]]) -> list[Fault]:
    """One fault for all records of its name, in the order of the first round."""
    names = list(dict.fromkeys(record["fault"] for record in records))
    return [_fault(name, [r for r in records if r["fault"] == name]) for name in names]


def table(faults: Sequence[Fault], rounds: int) -> str:
    """The faults as Markdown, with the machine and the command that made them."""
    lines = [
        "| fault | injected | accepted | lost | settled twice | back after, median | slowest |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {f.name} | {f.injected} | {f.accepted} | {f.lost} | {f.settled_twice}"
        f" | {f.recovery_s:.1f} s | {f.slowest_s:.1f} s |"
        for f in faults
    ]
    here = environment()
    machine = ", ".join(f"{name} {here[name]}" for name in ("cpu", "system", "python", "torch"))
    made_by = f"`python -m bench.reliability --rounds {rounds}`, {machine}"
    return "\n".join([*lines, "", made_by])


def with_table(page: str, text: str) -> str:
    """The page with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    assert marker, f"the page has no {BEGIN} ... {END}"
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _round(records: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "long or not long", "tests/e2e/faults"]
    environ = os.environ | {"FUSEBOX_RELIABILITY": str(records), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode


def _fault(name: str, records: Sequence[dict[str, Any]]) -> Fault:
    recoveries_s = [record["recovery_s"] for record in records]
    total = {
        key: sum(record[key] for record in records)
        for key in ("injected", "accepted", "lost", "settled_twice")
    }
    return Fault(name, **total, recovery_s=median(recoveries_s), slowest_s=max(recoveries_s))


def _rows(faults: Sequence[Fault]) -> list[Row]:
    rows = []
    for fault in faults:
        broken = fault.lost + fault.settled_twice
        rows.append(Row(f"{fault.name}: lost or twice", broken, "jobs", 0, False))
        rows.append(Row(f"{fault.name}: back", fault.slowest_s, "s", RECOVERY_BAR_S, False))
    return rows


if __name__ == "__main__":
    sys.exit(main())
