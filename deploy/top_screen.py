"""A view of `fusebox top` as a screen."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deploy.render import human_bytes, human_ms
from deploy.top_serving import groups_part, serving_part
from deploy.top_view import FunctionLine, MemoryLine, View, WorkerLine

_TIER_STYLES = {"device": "green", "host": "yellow", "disk": "dim"}
_BAR_COLUMNS = 24


def screen(view: View, url: str, lower: str = "functions") -> RenderableType:
    """The whole screen; its lower part is one of LOWER."""
    return Group(_head(view, url), "", _workers(view), "", _LOWER[lower](view))


def _head(view: View, url: str) -> Text:
    rows_per_s = sum(line.rows_per_s for line in view.functions)
    head = Text.assemble(
        ("fusebox ", "bold"),
        (url, "dim"),
        f"   {rows_per_s:.1f} rows/s   {view.queued} queued   {view.running} running",
    )
    if view.drift:
        # a job being moved between two states is counted at one moment: any drift is a fault
        head.append(f"   drift {view.drift}", "bold red")
    return head


def _workers(view: View) -> RenderableType:
    if not view.workers:
        return Text("no worker is alive", style="bold red")
    return Group(*(part for worker in view.workers for part in _worker(worker)))


def _worker(worker: WorkerLine) -> tuple[RenderableType, ...]:
    """Four lines: a table of so many columns would not fit a narrow terminal."""
    used, budget = human_bytes(worker.resident_bytes), human_bytes(worker.budget_bytes)
    memory = Table.grid(padding=(0, 1))
    memory.add_row(
        Text.assemble((worker.id, "bold"), f" {worker.device}"),
        ProgressBar(worker.budget_bytes, worker.resident_bytes, width=_BAR_COLUMNS),
        f"{used} of {budget}" + ("   draining" if worker.is_draining else ""),
    )
    lookups = worker.dag_hits + worker.dag_misses
    share = f" {worker.dag_hits / lookups:.0%}" if lookups else ""
    return (
        memory,
        (
            f"  weights    {worker.resident} resident   {worker.loads} loads   "
            f"{worker.evictions} evictions   {worker.thrash} thrash   "
            f"grown {human_bytes(worker.grown_bytes)}"
        ),
        (
            f"  DAG cache  {worker.dag_entries} in {human_bytes(worker.dag_bytes)}   "
            f"{worker.dag_hits}/{lookups} hits{share}   {worker.dag_evictions} evictions"
        ),
        f"  groups     {_strategies(worker)}",
    )


def _strategies(worker: WorkerLine) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in worker.strategies.items())
    if worker.best_gain is None or worker.best_gain <= 1:
        return counts or "none yet"
    return f"{counts}   up to {worker.best_gain:.2f} times as fast as serial"


def _functions(view: View) -> RenderableType:
    if not view.functions:
        return Text("no functions are deployed", style="dim")
    table = _table(
        "FUNCTION", "TIER", ">BYTES", ">QUEUE", ">ROWS/S", ">JOBS/S", ">P50", ">P99", ">FAILED"
    )
    for line in view.functions:
        table.add_row(*_function_cells(line))
    return table


def _function_cells(line: FunctionLine) -> list[RenderableType]:
    return [
        f"{line.name}@{line.version}",
        Text(line.tier, _TIER_STYLES[line.tier]),
        human_bytes(line.weight_bytes),
        str(line.queued),
        f"{line.rows_per_s:.1f}",
        f"{line.jobs_per_s:.1f}",
        human_ms(line.p50_ms),
        human_ms(line.p99_ms),
        Text(str(line.failed), "red" if line.failed else ""),
    ]


def _memory(view: View) -> RenderableType:
    if not view.memory:
        return Text("no function has been resident yet", style="dim")
    table = _table(
        "FUNCTION", "TIER", ">DEVICE", ">HOST", ">LOADS", ">DISK", ">TAKES", ">OUT", ">IDLE",
        ">STAYED", ">THRASH",
    )  # fmt: skip
    # a worker's functions stand together; who they are of is said where there are several
    several = len(view.workers) > 1
    for line in view.memory:
        name = f"{line.worker} {line.function}" if several else line.function
        table.add_row(name, *_memory_cells(line))
    return table


def _memory_cells(line: MemoryLine) -> list[RenderableType]:
    return [
        Text(line.tier, _TIER_STYLES[line.tier]),
        human_bytes(line.device_bytes) if line.device_bytes else "-",
        human_bytes(line.host_bytes) if line.host_bytes else "-",
        str(line.loads),
        str(line.disk_loads),
        human_ms(line.load_ms),
        str(line.evictions),
        human_ms(_in_ms(line.idle_s)),
        human_ms(_in_ms(line.stayed_s)),
        Text(str(line.thrash), "yellow" if line.thrash else ""),
    ]


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _table(*headings: str) -> Table:
    """A table whose headings begin with > where the column holds numbers."""
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    for heading in headings:
        justify = "right" if heading.startswith(">") else "left"
        table.add_column(heading.removeprefix(">"), justify=justify, no_wrap=True)  # type: ignore[arg-type]  # one of rich's literals
    return table


_LOWER: dict[str, Callable[[View], RenderableType]] = {
    "functions": _functions,
    "memory": _memory,
    "slo": serving_part,
    "groups": groups_part,
}
LOWER = tuple(_LOWER)
