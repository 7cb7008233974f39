"""Which jobs of a group run together. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from contract.function import FunctionRef
from workers.records import Staged

# jobs of one function whose rows are concatenated
Batch = tuple[Staged, ...]
# one fused DAG: at most one batch per function
Run = tuple[Batch, ...]


def plan_runs(jobs: Iterable[Staged]) -> list[Run]:
    """Runs that cover the jobs: the first batch of every function, then the second, and so on.

    A batch has at most its function's `max_batch` rows; a job of a function that is not batchable
    is alone in its batch.
    """
    by_function: dict[FunctionRef, list[list[Staged]]] = {}
    for job in jobs:
        _add(by_function.setdefault(job.function.ref, []), job)
    depth = max(map(len, by_function.values()), default=0)
    return [
        tuple(tuple(batches[i]) for batches in by_function.values() if i < len(batches))
        for i in range(depth)
    ]


def halves(run: Run) -> list[Run]:
    """The run in two, for when its functions cannot be resident together."""
    assert len(run) > 1
    middle = len(run) // 2
    return [run[:middle], run[middle:]]


def parted(run: Run, alone: Collection[str]) -> list[Run]:
    """What runs together, then each function in `alone` by itself."""
    together = tuple(batch for batch in run if str(batch[0].function.ref) not in alone)
    apart = [(batch,) for batch in run if str(batch[0].function.ref) in alone]
    return [together, *apart] if together else [*apart]


def singly(run: Run) -> list[Run]:
    """Each job of the run alone."""
    return [((job,),) for batch in run for job in batch]


def jobs_of(run: Run) -> list[Staged]:
    """Every job of the run."""
    return [job for batch in run for job in batch]


def without(run: Run, jobs: Sequence[Staged]) -> Run:
    """The run with these jobs left out."""
    gone = {job.spec.id for job in jobs}
    kept = (tuple(job for job in batch if job.spec.id not in gone) for batch in run)
    return tuple(batch for batch in kept if batch)


def _add(batches: list[list[Staged]], job: Staged) -> None:
    manifest = job.function.manifest
    if batches and manifest.is_batchable:
        rows = sum(other.rows for other in batches[-1])
        if rows + job.rows <= manifest.max_batch:
            batches[-1].append(job)
            return
    batches.append([job])
