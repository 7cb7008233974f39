"""Faults and hostile input: the tables of docs/reliability.md, made by the tests.

Each round runs tests/e2e/faults, whose tests add a line of JSON for the fault they injected; the
tests of tests/integration/hostile run once and add one for each class of input. It fails when a
job is lost or settles twice, when a fault takes longer than 15 s to recover from, when an input is
answered wrongly, or when a test fails.
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

from _report import Row, environment, finish

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
FAULTS, HOSTILE = "tests/e2e/faults", "tests/integration/hostile"
# what --quick injects and tries
ONE_FAULT, SOME_INPUT = "computes_when", "msgpack"
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


class Hostile(NamedTuple):
    """Inputs of one class: how many, and how many were answered other than they must be."""

    name: str
    tried: int
    wrong: int


def main(words: Sequence[str] | None = None) -> int:
    """Run the tests, write the tables; 1 when a test or a bar fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one fault, one class; no page")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        path = Path(folder) / "records.jsonl"
        only = ["-k", ONE_FAULT] if options.quick else []
        failed = sum(_run(path, FAULTS, *only) for _ in range(rounds))
        failed += _run(path, HOSTILE, *(["-k", SOME_INPUT] if options.quick else []))
        records = [json.loads(line) for line in path.read_text().splitlines()]
    faults = summarise([record for record in records if "fault" in record])
    hostile = [Hostile(r["class"], r["tried"], r["wrong"]) for r in records if "class" in r]
    if not options.quick:
        write(options.page, faults, hostile, f"python bench/reliability.py --rounds {rounds}")
    missed = finish(_rows(faults, hostile, failed), "Faults and hostile input", options.json)
    return 1 if failed else missed


def summarise(records: Sequence[dict[str, Any]]) -> list[Fault]:
    """One fault for all records of its name, in the order of the first round."""
    names = list(dict.fromkeys(record["fault"] for record in records))
    return [_fault(name, [r for r in records if r["fault"] == name]) for name in names]


def write(page: Path, faults: Sequence[Fault], hostile: Sequence[Hostile], command: str) -> None:
    """Put both tables into the page, with the machine and the command that made them."""
    here = environment()
    machine = ", ".join(f"{name} {here[name]}" for name in ("cpu", "system", "python", "torch"))
    text = page.read_text()
    for marker, lines in (("faults", _fault_lines(faults)), ("hostile", _hostile_lines(hostile))):
        text = with_table(text, marker, "\n".join([*lines, "", f"`{command}`, {machine}"]))
    page.write_text(text)


def _fault_lines(faults: Sequence[Fault]) -> list[str]:
    return [
        "| fault | injected | accepted | lost | settled twice | back after, median | slowest |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {f.name} | {f.injected} | {f.accepted} | {f.lost} | {f.settled_twice}"
            f" | {f.recovery_s:.1f} s | {f.slowest_s:.1f} s |"
            for f in faults
        ),
    ]


def _hostile_lines(hostile: Sequence[Hostile]) -> list[str]:
    rows = [f"| {its.name} | {its.tried} | {its.wrong} |" for its in hostile]
    return ["| input | tried | wrong answers |", "|---|---|---|", *rows]


def with_table(page: str, marker: str, text: str) -> str:
    """The page with the text between the marker's two comments."""
    begin, end = f"<!-- {marker}: begin -->", f"<!-- {marker}: end -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"the page has no {begin} ... {end}"
    return f"{before}{begin}\n{text}\n{end}{after}"


def _run(records: Path, *tests: str) -> bool:
    """Run tests that write records; whether one failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "long or not long", *tests]
    environ = os.environ | {"FUSEBOX_RELIABILITY": str(records), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode != 0


def _fault(name: str, records: Sequence[dict[str, Any]]) -> Fault:
    recoveries_s = [record["recovery_s"] for record in records]
    total = {
        key: sum(record[key] for record in records)
        for key in ("injected", "accepted", "lost", "settled_twice")
    }
    return Fault(name, **total, recovery_s=median(recoveries_s), slowest_s=max(recoveries_s))


def _rows(faults: Sequence[Fault], hostile: Sequence[Hostile], failed: int) -> list[Row]:
    rows = []
    for fault in faults:
        broken = fault.lost + fault.settled_twice
        rows.append(Row(f"{fault.name}: injected", fault.injected, "times"))
        rows.append(Row(f"{fault.name}: lost or twice", broken, "jobs", 0, False))
        rows.append(Row(f"{fault.name}: back", fault.slowest_s, "s", RECOVERY_BAR_S, False))
    for its in hostile:
        rows.append(Row(f"{its.name}: tried", its.tried, "inputs"))
        rows.append(Row(f"{its.name}: wrong answers", its.wrong, "inputs", 0, False))
    rows.append(Row("runs of tests with a failure", failed, "runs", 0, False))
    return rows


if __name__ == "__main__":
    sys.exit(main())
