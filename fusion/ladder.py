"""The rungs of export: symbolic rows, first loose and then strict; else a static graph per bucket.

A rung is tried when the one before it fails. What no rung takes is told by the first error.
"""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fusion.errors import ExportError, InvalidExample
from fusion.lower import Lowered, lower
from fusion.probes import with_rows
from fusion.where import error_line

# torch.export specialises on 0 and 1: a symbolic dimension is traced with 2 rows, and rows that
# may only be 1 or 2 are taken for two unrelated sizes.
_TRACED_ROWS, _SYMBOLIC_ROWS = 2, 3
_DATA_DEPENDENT = (
    "Control flow on tensor values cannot be exported: compute both sides and choose with "
    "torch.where, and keep .item(), .tolist() and .numpy() out of forward"
)
_GENERAL = "forward must be traceable by torch.export; see docs/fusion.md for what is supported"


class Climbed(NamedTuple):
    """What the first rung that holds gives: one graph, or one per row bucket, ascending."""

    lowered: tuple[Lowered, ...]
    notes: tuple[str, ...]


def climb(
    module: nn.Module, inputs: Mapping[str, Tensor], names: Sequence[str], max_rows: int
) -> Climbed:
    """Export by the first rung that holds; raises ExportError with the user's line.

    `inputs` by parameter of forward, at least one row each; `names` are what the graph calls them.
    """
    why: ExportError | None = _failure(module, inputs, 1)
    if why is None:
        try:
            return Climbed((lower(_trace_symbolic(module, inputs, max_rows), names),), ())
        except ExportError as error:
            why = error
    return _climb_static(module, inputs, names, max_rows, why)


def row_buckets(max_rows: int) -> list[int]:
    """The powers of two up to `max_rows`."""
    return [1 << k for k in range(max_rows.bit_length())]


def _failure(module: nn.Module, inputs: Mapping[str, Tensor], rows: int) -> ExportError | None:
    """What forward itself raises with so many rows: told as such, not as an error of tracing."""
    try:
        module(**_cut(inputs, rows))
    except Exception as error:  # noqa: BLE001 -- the user's code may raise anything
        counted = "1 row" if rows == 1 else f"{rows} rows"
        problem = (
            f"forward fails on the example inputs with {counted}: {type(error).__name__}: {error}"
        )
        found = InvalidExample(problem, "Make it run eagerly first", error_line(error))
        found.__cause__ = error
        return found
    return None


def _trace_symbolic(
    module: nn.Module, inputs: Mapping[str, Tensor], max_rows: int
) -> ExportedProgram:
    rows = Dim("rows", min=1, max=max(max_rows, _SYMBOLIC_ROWS))
    symbolic = {name: {0: rows} for name in inputs}
    return _trace(module, _cut(inputs, _TRACED_ROWS), symbolic)


def _trace(
    module: nn.Module, inputs: dict[str, Tensor], shapes: dict[str, Any] | None
) -> ExportedProgram:
    """Without and then with strict mode; raises ExportError of the first try."""
    first: Exception | None = None
    for strict in (False, True):
        try:
            # where it fails it prints the graph so far, which tells users nothing
            with redirect_stderr(StringIO()):
                return torch.export.export(module, (), inputs, dynamic_shapes=shapes, strict=strict)
        except Exception as error:  # noqa: BLE001 -- tracing runs the user's code, which may raise anything
            first = first or error
    assert first is not None
    raise _explained(first) from first


def _climb_static(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    names: Sequence[str],
    max_rows: int,
    why: ExportError,
) -> Climbed:
    """A static graph of every row bucket that the module allows; raises `why` where it is none."""
    found: list[Lowered] = []
    for rows in row_buckets(max_rows):
        if _failure(module, inputs, rows) is not None:
            continue
        try:
            lowered = lower(_trace(module, _cut(inputs, rows), None), names)
        except ExportError as error:
            if is_data_dependent(error) or error.problem == why.problem:
                break  # another number of rows makes no difference
            # that the model does not run with one row is no longer what stands in the way
            why = error if isinstance(why, InvalidExample) else why
            continue
        if not found or _specs(lowered) == _specs(found[0]):
            found.append(lowered)
    if not found:
        raise why
    served = [str(lowered.graph.fixed_rows) for lowered in found]
    reason = why.problem.splitlines()[0]
    note = f"rows cannot be symbolic ({reason}): exported for batches of {', '.join(served)} alone"
    return Climbed(tuple(found), (note,))


def _cut(inputs: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    return {name: with_rows(x, rows) for name, x in inputs.items()}


def _specs(lowered: Lowered) -> object:
    """What a caller sees of a graph."""
    return lowered.graph.inputs, [output.spec for output in lowered.graph.outputs]


def is_data_dependent(error: ExportError) -> bool:
    """Whether values decide what is computed, which no number of rows changes."""
    return error.what_to_do == _DATA_DEPENDENT


def _explained(error: Exception) -> ExportError:
    text = str(error).strip() or type(error).__name__
    depends = any(
        mark in f"{type(error).__name__} {text}"
        for mark in ("DataDependent", "data-dependent", "fake tensor", "FakeTensor")
    )
    advice = _DATA_DEPENDENT if depends else _GENERAL
    problem = f"cannot export forward: {type(error).__name__}: {text.splitlines()[0]}"
    return ExportError(problem.rstrip("."), advice, error_line(error))
