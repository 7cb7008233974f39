"""A model that cannot become a graph, made ready to run as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from torch import Tensor, nn

import fusion
from contract.function import INCLUDED
from deploy.errors import PackagingError
from deploy.model import Model, check_specs, tolerance_of
from fusion.check import Comparison, compare_outputs, worst_of
from fusion.eager import run, state_of
from fusion.eager_probes import (
    is_batchable,
    is_repeatable,
    measure_activation_bytes,
    output_specs,
    probes,
)
from fusion.errors import ExportError
from fusion.export import checked_example
from fusion.ir import TensorSpec
from fusion.probes import probe_inputs
from fusion.rebuilding import read_tensors
from fusion.signature import parameter_names
from fusion.weights import write_weights

_TIMED_RUNS = 5


@dataclass(frozen=True)
class Eager:
    """What the probes say of a module."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: dict[str, Tensor]
    is_batchable: bool
    # activation peak, by rows
    activation_bytes: dict[int, int]
    # of one row, on this machine
    forward_ms: float


def probe(model: Model, rows: Sequence[int]) -> Eager:
    """Run the module in every way that the platform relies on; raises PackagingError."""
    module, example = model.module, _by_parameter(model)
    try:
        outputs = output_specs(module, example)
        if not is_repeatable(module, example, rows):
            raise PackagingError(
                "the model answers the same input differently each time, or changes its weights. "
                "Remove randomness and counters from forward: a function keeps nothing"
            )
        peaks = {n: measure_activation_bytes(module, probe_inputs(example, n, 0)) for n in rows}
        forward_ms = _forward_ms(module, probe_inputs(example, 1, 0))
    except ExportError as error:
        raise PackagingError(str(error), location=error.location) from error
    except PackagingError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise PackagingError(f"forward fails: {type(error).__name__}: {error}") from error
    names = parameter_names(module, list(model.example_inputs))
    inputs = tuple(
        TensorSpec(names[key], str(x.dtype).removeprefix("torch."), (None, *x.shape[1:]))
        for key, x in example.items()
    )
    check_specs((*inputs, *outputs))
    joined = is_batchable(module, example)
    return Eager(inputs, outputs, state_of(module), joined, peaks, forward_ms)


def compare_rebuilt(
    model: Model, eager: Eager, members: Mapping[str, Path], weights: Path, rows: Sequence[int]
) -> Comparison:
    """The module made from what travels, in a process of its own, against the one that is here.

    Raises PackagingError where it cannot be made, or answers otherwise.
    """
    folder = weights.parent / "rebuilt"
    _lay_out(members, folder)
    given = list(probes(_by_parameter(model), rows))
    numbered = {f"{k}.{key}": x for k, named in enumerate(given) for key, x in named.items()}
    write_weights(weights.parent / "inputs", numbered)
    answered = weights.parent / "outputs"
    _rebuild(folder, weights, weights.parent / "inputs", answered)
    found = read_tensors(answered)
    comparisons = []
    for k, named in enumerate(given):
        expected = run(model.module, named)
        for again in (0, 1):
            actual = [found[f"{2 * k + again}.{name}"] for name in expected]
            comparisons.append(compare_outputs(actual, [*expected.values()]))
    worst = worst_of(comparisons)
    if not worst.is_within(tolerance_of(eager.outputs)):
        raise PackagingError(
            f"the model made anew from its source differs by {worst.relative:.2e} (relative). What "
            "load() makes must be the same each time, but for parameters and buffers"
        )
    return worst


def _by_parameter(model: Model) -> dict[str, Tensor]:
    inputs = checked_example(model.example_inputs)
    return {key: inputs[name] for key, name in parameter_names(model.module, [*inputs]).items()}


def _forward_ms(module: nn.Module, inputs: Mapping[str, Tensor]) -> float:
    seconds = []
    for _ in range(_TIMED_RUNS):
        began_s = time.perf_counter()
        run(module, inputs)
        seconds.append(time.perf_counter() - began_s)
    return median(seconds) * 1000


def _lay_out(members: Mapping[str, Path], folder: Path) -> None:
    """Handler and files side by side, as in a handler host."""
    for name, path in members.items():
        target = folder / name.removeprefix(INCLUDED)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _rebuild(folder: Path, *files: Path) -> None:
    # -P: what is imported is the function's, ours or installed
    command = [sys.executable, "-P", "-m", "fusion.rebuilding", str(folder), *map(str, files)]
    environ = os.environ | {"PYTHONPATH": str(Path(fusion.__file__).parent.parent)}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    sys.stderr.write(done.stdout)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise PackagingError(
            f"the model cannot be made from its source alone: {lines[-1]}. load() runs on the "
            "platform too: bring what it reads along with files() or --include"
        )
