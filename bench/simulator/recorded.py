"""Workloads that were played on a platform, kept with what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .report import Summary
from .workloads import Call, Workload, record, recorded


class Measured(NamedTuple):
    """Figures of a real run, of the calls sent in [from_s, until_s)."""

    from_s: float
    until_s: float
    summary: Summary


def save(folder: Path, name: str, calls: Iterable[Call], measured: Measured) -> None:
    """A trace and its figures."""
    record(folder / f"{name}.jsonl", calls)
    plain = measured._asdict() | {"summary": measured.summary._asdict()}
    (folder / f"{name}.json").write_text(json.dumps(plain, indent=1) + "\n")


def load(folder: Path, name: str) -> tuple[Workload, Measured]:
    """What `save` kept."""
    plain = json.loads((folder / f"{name}.json").read_text())
    summary = Summary(**plain.pop("summary"))
    return recorded(folder / f"{name}.jsonl"), Measured(**plain, summary=summary)
