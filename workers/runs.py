"""Which jobs of a group run together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from contract.function import FunctionRef, Manifest
from workers.records import Staged

# jobs of one function whose rows are concatenated
Batch = tuple[Staged, ...]
# one fused DAG: at most one batch per function
Run = tuple[Batch, ...]
# of a function, where its jobs are joined
MostRows = Callable[[Manifest], int]


def _max_batch(manifest: Manifest) -> int:
    return manifest.max_batch


def plan_runs(jobs: Iterable[Staged], most_rows: MostRows = _max_batch) -> list[Run]:
    """Runs that cover the jobs: the first batch of every function, then the second, and so on.

    A batch has at most `most_rows` of its function, or is one job; a job of a function that is not
    batchable is alone in its batch.
    """
    by_function: dict[FunctionRef, list[list[Staged]]] = {}
    for job in jobs:
        _add(by_function.setdefault(job.function.ref, []), job, most_rows)
    depth = max(map(len, by_function.values()), default=0)
    return [
        tuple(tuple(batches[i]) for batches in by_function.values() if i < len(batches))
        for i in range(depth)
    ]


def halves(run: Run) -> list[Run]:
    """The run in two, for when it does not fit: by functions, or one function's jobs."""
    if len(run) == 1:
        (batch,) = run
        assert len(batch) > 1
        middle = len(batch) // 2
        return [(batch[:middle],), (batch[middle:],)]
    middle = len(run) // 2
    return [run[:middle], run[middle:]]


def rows_in(batch: Batch) -> int:
    """Rows of all its jobs."""
    return sum(job.rows for job in batch)


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


def functions_of(run: Run) -> set[FunctionRef]:
    """The functions of its batches."""
    return {batch[0].function.ref for batch in run}


def without(run: Run, jobs: Sequence[Staged]) -> Run:
    """The run with these jobs left out."""
    gone = {job.spec.id for job in jobs}
    return only(run, [job for job in jobs_of(run) if job.spec.id not in gone])


def only(run: Run, jobs: Sequence[Staged]) -> Run:
    """The run with no other than these jobs."""
    wanted = {job.spec.id for job in jobs}
    kept = (tuple(job for job in batch if job.spec.id in wanted) for batch in run)
    return tuple(batch for batch in kept if batch)


def _add(batches: list[list[Staged]], job: Staged, most_rows: MostRows) -> None:
    manifest = job.function.manifest
    if batches and manifest.is_batchable:
        rows = sum(other.rows for other in batches[-1])
        if rows + job.rows <= most_rows(manifest):
            batches[-1].append(job)
            return
    batches.append([job])
