"""Jobs of one function share its weights: rows are concatenated, outputs split again."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.errors import IntegrityError

Job = Sequence[Tensor]  # its inputs in the graph's order, each [rows, ...]


def rows_of(job: Job) -> int:
    """The rows of a job; raises IntegrityError when its inputs disagree."""
    rows = job[0].size(0)  # not len(x), whose Python costs ten times as much, nor a whole shape
    for x in job:
        if x.size(0) != rows:
            shapes = [tuple(x.shape) for x in job]
            raise IntegrityError(f"inputs of one job have different rows: shapes {shapes}")
    return rows


def concat(jobs: Sequence[Job]) -> list[Tensor]:
    """The inputs of all jobs as those of one; a single job is passed on without a copy."""
    if len(jobs) == 1:
        return list(jobs[0])
    return [torch.cat(parts) for parts in zip(*jobs, strict=True)]


def filled_up(job: Job, rows: int) -> Job:
    """The job with its last row repeated until there are `rows`; raises IntegrityError beyond.

    A row that is there fits every operator: zeros might be no index of a table.
    """
    missing = rows - rows_of(job)
    if missing < 0:
        raise IntegrityError(f"{rows_of(job)} rows, the graph takes {rows}")
    if not missing:
        return job
    return [torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) for x in job]


def split(outputs: Sequence[Tensor], rows: Sequence[int]) -> list[list[Tensor]]:
    """Per job its share of each output, as views; raises IntegrityError when rows are missing."""
    check_integrity(outputs, sum(rows))
    if len(rows) == 1:
        return [list(outputs)]
    parts = [output.split_with_sizes(list(rows)) for output in outputs]
    return [list(job) for job in zip(*parts, strict=True)]


def check_integrity(outputs: Sequence[Tensor], rows: int) -> None:
    """Every output has as many rows as went in."""
    for index, output in enumerate(outputs):
        if not output.dim() or output.size(0) != rows:
            shape = tuple(output.shape)
            raise IntegrityError(f"output {index} has shape {shape}, {rows} rows went in")
