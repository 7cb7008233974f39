"""`fusebox dag`: the fused DAG of functions, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.dag_lanes import newest_group, plan, rows_of
from deploy.errors import Undrawable
from deploy.verb import Terminal, complete_function, verb

if TYPE_CHECKING:
    from deploy.client import Record

# numbers of rows at which the picture says how the group ran
SHOWN = 4


@verb("dag")
@click.argument("names", nargs=-1, required=True, shell_complete=complete_function)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=Path("dag.svg"),
    show_default=True,
    help="The picture, SVG.",
)
@click.option(
    "--strategy",
    type=click.Choice(["serial", "prefix", "stack", "branches"]),
    help="Draw it as this would run; by default as it ran last.",
)
@click.option("--all", "is_whole", is_flag=True, help="Views, row counts and constants too.")
def dag(
    terminal: Terminal, names: tuple[str, ...], out: Path, strategy: str | None, is_whole: bool
) -> None:
    """Draw the fused DAG in which these functions run together."""
    with terminal.client() as client:
        functions = [client.graph(name) for name in names]
        execution = client.function(names[0])["execution"]
    refs = [f"{function['name']}@{function['version']}" for function in functions]
    repeated = {ref for ref in refs if refs.count(ref) > 1}
    if repeated:
        raise Undrawable(
            f"NAME: expected different functions, got {min(repeated)} more than once; "
            "jobs of one function are rows of one member"
        )
    from deploy.dag_svg import Legend, svg
    from deploy.drawing import draw, fused, members_of, shared_operators  # torch

    members = members_of(functions)
    drawing, run = draw(fused(members), is_whole), None
    if len(refs) > 1:
        run = plan(
            refs,
            [member.graph for member in members],
            newest_group(refs, execution["groups"]),
            execution["threads"],
            strategy,
            has_shared=bool(shared_operators(drawing)),
        )
        if run.lanes:
            drawing = draw(fused(members, is_apart=True), is_whole)
    title = f"Fused DAG of {', '.join(refs)}" if run else f"DAG of {refs[0]}"
    remarks = (*_measured(refs, execution), run.remark) if run else ()
    picture = svg(drawing, Legend(title, tuple(refs), remarks), run.lanes if run else ())
    try:
        out.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise Undrawable(f"--out: {out} cannot be written: {error}") from error
    operators = sum(box.kind == "operator" for box in drawing.boxes)
    shared = shared_operators(drawing)
    made = {"out": str(out), "functions": refs, "operators": operators, "shared": shared}
    if run:
        made["strategy"] = run.strategy
    terminal.show(made, lambda: f"{out}: {operators} operators, {shared} of them shared")


def _measured(refs: list[str], execution: Record) -> list[str]:
    """How this group was measured to run, at the latest numbers of rows."""
    from deploy.commands.functions import fastest

    lines = [
        f"{name}: {fastest(group['measured_ms'], 'serial', group['strategy'])}"
        for name, group in execution["groups"].items()
        if sorted(rows_of(name)) == sorted(refs)
    ]
    return lines[-SHOWN:]
