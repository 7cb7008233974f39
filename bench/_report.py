"""What every bench prints and writes: rows with a bar, a table, JSON, an exit code."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from _intervals import Interval


class Row(NamedTuple):
    """One measured claim; without a bar it is shown and never fails. None: not measured."""

    case: str
    value: float | None
    unit: str
    bar: float | None = None
    higher_is_better: bool = True
    # where the value lies, and of how many runs it is
    interval: Interval | None = None

    @property
    def ok(self) -> bool:
        """Whether the value reaches its bar."""
        if self.bar is None or self.value is None:
            return True
        return self.value >= self.bar if self.higher_is_better else self.value <= self.bar

    @property
    def bar_text(self) -> str:
        """The bar as a condition."""
        if self.bar is None:
            return ""
        return f"{'>=' if self.higher_is_better else '<='} {self.bar:g}"

    @property
    def interval_text(self) -> str:
        """What the value rests on."""
        if self.interval is None:
            return ""
        low, high, runs = self.interval
        return f"{low:.3g} to {high:.3g} of {runs} runs"


def finish(rows: Sequence[Row], title: str, json_path: str | Path | None = None) -> int:
    """Print the table, write the JSON file if asked, return 1 when a row misses its bar."""
    print(f"{title}\n{header()}")
    width = max((len(row.case) for row in rows), default=0)
    for row in rows:
        mark = "" if row.bar is None or row.value is None else ("ok" if row.ok else "MISSED")
        text = "not measured" if row.value is None else f"{row.value:.4g}"
        value = f"{text:>12} {row.unit:<8} {row.bar_text:<10} {mark:<6}"
        print(f"{row.case:<{width}}  {value} {row.interval_text}".rstrip())
    if json_path is not None:
        plain = {"title": title, "environment": environment(), "rows": [_plain(r) for r in rows]}
        Path(json_path).write_text(json.dumps(plain, indent=1) + "\n")
    missed = [row.case for row in rows if not row.ok]
    if missed:
        print(f"{len(missed)} of {len(rows)} rows miss their bar: {', '.join(missed)}")
    return 1 if missed else 0


def environment() -> dict[str, str]:
    """Hardware, versions and the command line: without them a number says nothing."""
    return {
        "cpu": f"{_cpu_name()}, {len(os.sched_getaffinity(0))} usable cores",
        **_gpu(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "command": shlex.join(sys.argv),
    }


def header() -> str:
    """The environment in one line."""
    return "  ".join(f"{name}={value}" for name, value in environment().items())


def _gpu() -> dict[str, str]:
    """The GPU, of a script that has used one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {"gpu": f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"}


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain(row: Row) -> dict[str, Any]:
    plain = {
        "case": row.case,
        "value": row.value,
        "unit": row.unit,
        "bar": row.bar,
        "higher_is_better": row.higher_is_better,
        "ok": None if row.value is None else row.ok,
    }
    return plain if row.interval is None else plain | row.interval._asdict()
