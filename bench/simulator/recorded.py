"""Workloads that were played on a platform, kept with what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .report import Summary
from .workloads import Call, Workload, record, recorded


class Slower(NamedTuple):
    """How many times as long as its profile says a run took; a machine differs from hour to hour.

    Of service times alone: how long anything waited is what the simulator has to find.
    """

    # groups on the device
    compute: float = 1.0
    # what stands between a call, the device and the answer
    way: float = 1.0


class Measured(NamedTuple):
    """Figures of a real run, of the calls sent in [from_s, until_s)."""

    from_s: float
    until_s: float
    summary: Summary
    slower: Slower = Slower()


def save(folder: Path, name: str, calls: Iterable[Call], measured: Measured) -> None:
    """A trace and its figures."""
    record(folder / f"{name}.jsonl", calls)
    parts = {"summary": measured.summary._asdict(), "slower": measured.slower._asdict()}
    plain = measured._asdict() | parts
    (folder / f"{name}.json").write_text(json.dumps(plain, indent=1) + "\n")


def load(folder: Path, name: str) -> tuple[Workload, Measured]:
    """What `save` kept."""
    plain = json.loads((folder / f"{name}.json").read_text())
    parts = {
        "summary": Summary(**plain.pop("summary")),
        "slower": Slower(**plain.pop("slower", {})),
    }
    return recorded(folder / f"{name}.jsonl"), Measured(**plain, **parts)
