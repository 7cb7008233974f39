"""`fusebox dag`: the fused DAG of functions, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.errors import Undrawable
from deploy.verb import Terminal, complete_function, verb

if TYPE_CHECKING:
    from deploy.client import Record


@verb("dag")
@click.argument("names", nargs=-1, required=True, shell_complete=complete_function)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=Path("dag.svg"),
    show_default=True,
    help="The picture, SVG.",
)
@click.option("--all", "is_whole", is_flag=True, help="Views, row counts and constants too.")
def dag(terminal: Terminal, names: tuple[str, ...], out: Path, is_whole: bool) -> None:
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
    from deploy.drawing import draw, fused  # torch

    drawing = draw(fused(functions), is_whole)
    title = f"Fused DAG of {', '.join(refs)}" if len(refs) > 1 else f"DAG of {refs[0]}"
    picture = svg(drawing, Legend(title, tuple(refs), _remarks(refs, execution)))
    try:
        out.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise Undrawable(f"--out: {out} cannot be written: {error}") from error
    operators = [box for box in drawing.boxes if box.kind == "operator"]
    shared = sum(len(box.owners) > 1 for box in operators)
    made = {"out": str(out), "functions": refs, "operators": len(operators), "shared": shared}
    terminal.show(made, lambda: f"{out}: {len(operators)} operators, {shared} of them shared")


def _remarks(refs: list[str], execution: Record) -> tuple[str, ...]:
    """How this group was measured to run, at each number of rows."""
    from deploy.commands.functions import fastest

    return tuple(
        f"{name}: {fastest(group['measured_ms'], 'serial', group['strategy'])}"
        for name, group in execution["groups"].items()
        if sorted(member.split(" ")[0] for member in name.split(" + ")) == sorted(refs)
    )
