"""`fusebox deploy`: package a model, upload it, say what it became."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from deploy.options import Options
from deploy.verb import Terminal, destination_option, verb

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.client import Record
    from deploy.package import Package

STEPS = {
    "load": "loading the model",
    "export": "exporting and folding the graph",
    "compare": "comparing graph and model",
    "measure": "measuring activations",
    "pack": "packing the weights",
    "upload": "uploading",
}
OnStep = Callable[[str], None]


@verb("deploy")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="The function's name; by default that of the folder or the file.")
@click.option("--slo-ms", type=click.FloatRange(1), help="The latency to aim at.")
@click.option(
    "--timeout-ms",
    type=click.FloatRange(1),
    default=Options.timeout_ms,
    show_default=True,
    help="The time after which an answer is worthless.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 65536),
    default=Options.max_batch,
    show_default=True,
    help="Rows of one run at most.",
)
@click.option(
    "--keep-alive-s",
    type=click.FloatRange(-1),
    help="How long idle weights stay in device memory: 0 leaves at once, -1 stays for ever.",
)
@click.option(
    "--include",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A file or folder that lies beside handler.py on the platform; repeatable.",
)
@destination_option("--on-success", "each job that has a result")
@destination_option("--on-failure", "each job that ends without one")
@click.option(
    "--no-eager",
    is_flag=True,
    help="Refuse a model that cannot become a graph, rather than run it as it is.",
)
def deploy(terminal: Terminal, path: Path, no_eager: bool, **options: Any) -> None:
    """Package a model and deploy it as the next version of a function.

    PATH is a handler.py or any other .py, a folder with a handler.py, or a .pt2 program.
    """
    from deploy.package import package

    with (
        TemporaryDirectory(prefix="fusebox-") as folder,
        _steps(terminal) as on_step,
    ):
        # what the user's code prints is not the verb's result
        with redirect_stdout(sys.stderr):
            made = package(path, Options(eager=not no_eager, **options), Path(folder), on_step)
        on_step("upload")
        with terminal.client() as client:
            function = client.deploy(made.name, made.tar, made.digest, made.compute_ms)
        blocks = _blocks(made, Path(folder), function)
    if not terminal.is_json:
        for warning in made.warnings:
            click.secho(f"warning: {warning}", fg="yellow", err=True)
    record = made.as_json() | {"version": function["version"]} | blocks
    terminal.show(record, lambda: _table(made, function, blocks))


@contextmanager
def _steps(terminal: Terminal) -> Iterator[OnStep]:
    """What runs now, with its time; a line a step where nobody watches."""
    if terminal.is_json:
        yield lambda _step: None
        return
    if not sys.stderr.isatty():
        yield lambda step: click.echo(STEPS[step], err=True)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=terminal.errors) as progress:

        def finish() -> None:
            for task in progress.tasks:
                progress.update(task.id, total=1, completed=1)

        def begin(step: str) -> None:
            finish()
            progress.add_task(STEPS[step], total=None)

        yield begin
        finish()


def _blocks(made: Package, folder: Path, function: Record) -> Record:
    """The plan in blocks, where no worker holds the function as a whole."""
    if "blocks_budget_bytes" not in function:
        return {}
    from deploy.blocks import planned

    return {"blocks": planned(folder, made.manifest, function["blocks_budget_bytes"])}


def _table(made: Package, function: Record, blocks: Record) -> Table:
    from deploy.commands.functions import block_rows
    from deploy.render import human_bytes, human_specs, pairs

    manifest = made.manifest
    difference = f"{made.largest_difference:.2e} (relative {made.largest_relative_difference:.1e})"
    if manifest.is_eager:
        runs = [("runs", "eagerly, in a process of its own")]
        against = "between the model and what the platform makes of its source"
    else:
        folded = f"{manifest.operators_exported} exported, {manifest.operators} folded"
        runs = [("operators", folded), ("architecture", manifest.architecture)]
        against = "between graph and model"
    return pairs(
        [
            ("deployed", f"{made.name}@{function['version']}"),
            ("inputs", human_specs(spec.encode() for spec in manifest.inputs)),
            ("outputs", human_specs(spec.encode() for spec in manifest.outputs)),
            ("parameters", f"{manifest.parameters:,}"),
            ("weights", human_bytes(manifest.weight_bytes)),
            *runs,
            *(block_rows(blocks["blocks"]) if blocks else []),
            ("largest difference", f"{difference} {against}"),
        ]
    )
