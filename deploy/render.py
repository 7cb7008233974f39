"""Numbers and tables as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

_SHORT = 8


def human_bytes(count: float) -> str:
    """`44.9 MB`: powers of 1000, as disks and budgets are given."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.95 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def human_ms(ms: float | None) -> str:
    """`1.25 ms`, `1.50 s`, or a dash."""
    if ms is None:
        return "-"
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.3g} ms" if ms < 100 else f"{ms:.0f} ms"


def human_spec(spec: Mapping[str, Any]) -> str:
    """`images float32 [rows, 3, 64, 64]`."""
    shape = ", ".join("rows" if n is None else str(n) for n in spec["shape"])
    return f"{spec['name']} {spec['dtype']} [{shape}]"


def human_specs(specs: Iterable[Mapping[str, Any]]) -> str:
    """One spec a line."""
    return "\n".join(map(human_spec, specs))


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """A table of names and values."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def shortened(value: Any) -> Any:
    """The same JSON with long lists cut, for a screen."""
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) <= _SHORT or all(isinstance(item, str) for item in value):
        return [shortened(item) for item in value]
    head = [shortened(item) for item in value[: _SHORT - 2]]
    return [*head, f"... {len(value) - len(head)} more"]
