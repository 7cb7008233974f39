"""Computing runs: weights in slots, one run at a time on the device, a bad job failing alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import NamedTuple

from contract.errors import DeadlineExceeded, FuseboxError
from contract.function import FunctionRef
from contract.job import Status
from contract.log import Log
from contract.store.queue import Fetched
from fusion.errors import BudgetExceeded, MemberError
from fusion.slots import Lease, SlotTable
from workers.arriving import ArrivingRuns
from workers.blocks import Blocks
from workers.calls import call_of, outside, scratch_bytes
from workers.ceilings import Ceilings, lacked_memory, too_large
from workers.claims import Claims
from workers.dags import DagRun, Dags
from workers.library import Library, Loaded
from workers.prefetching import Prefetcher
from workers.records import Ended, Ran, Staged, Tally, Times
from workers.runs import (
    Batch,
    Run,
    functions_of,
    halves,
    jobs_of,
    only,
    parted,
    plan_runs,
    rows_in,
    singly,
    without,
)
from workers.translation import translate

log = Log("compute")


class Results(NamedTuple):
    """Jobs that were computed, and jobs that ended without."""

    ran: list[Ran]
    ended: list[Ended]

    def extend(self, other: Results) -> None:
        """Add another run's."""
        self.ran.extend(other.ran)
        self.ended.extend(other.ended)


@dataclass(frozen=True)
class DeviceTurn:
    """One run computes while other threads stage theirs: hooks, weights."""

    # called by whoever has the turn, at its end
    after_run: Callable[[], None]
    device: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_taken(self) -> bool:
        """Whether a run is on the device now."""
        return self.device.locked()


class Computer:
    """Runs staged jobs on the one device of this worker; called from several threads."""

    def __init__(
        self,
        library: Library,
        slots: SlotTable,
        dags: Dags,
        claims: Claims,
        turn: DeviceTurn,
        run_eagerly: Callable[[Batch, Tally], Results],
        ceilings: Ceilings,
        blocks: Blocks,
        prefetcher: Prefetcher,
    ) -> None:
        self._library = library
        self._slots = slots
        self._dags = dags
        self._claims = claims
        self._turn = turn
        self._run_eagerly = run_eagerly
        self._ceilings = ceilings
        self._blocks = blocks
        self._prefetcher = prefetcher
        self._arriving = ArrivingRuns()

    @contextmanager
    def spare_device(self) -> Iterator[bool]:
        """The device for what no job waits for, where no run is on it: True, and none begins."""
        is_spare = self._turn.device.acquire(blocking=False)
        try:
            yield is_spare
        finally:
            if is_spare:
                self._turn.device.release()

    def expecting(self, functions: Iterable[FunctionRef]) -> AbstractContextManager[None]:
        """While jobs of these functions are staged, their weights come in, and do not leave."""
        return self._prefetcher.until_its_turn(functions)

    def compute(self, jobs: Sequence[Staged], tally: Tally) -> Results:
        """Outputs of the jobs, or how they ended; costs are added to `tally`."""
        results = Results([], [])
        loaded: dict[str, Loaded] = {}
        graphs = [job for job in jobs if not job.function.manifest.is_eager]
        most_rows = self._ceilings.most_rows
        runs = [
            part
            for run in plan_runs(self._load(graphs, loaded, results, tally), most_rows)
            for part in parted(run, {key for key, each in loaded.items() if each.blocks})
        ]
        results.extend(self._run_each(runs, loaded, tally))
        eager = (job for job in jobs if job.function.manifest.is_eager)
        for run in plan_runs(eager, most_rows):
            for batch in run:
                results.extend(self._run_eagerly(batch, tally))
        return results

    def _load(
        self, jobs: Sequence[Staged], loaded: dict[str, Loaded], results: Results, tally: Tally
    ) -> list[Staged]:
        """Read the artifacts; jobs of a broken one end here, alone."""
        broken: dict[str, FuseboxError] = {}
        for function in {job.function.ref: job.function for job in jobs}.values():
            key = str(function.ref)
            try:
                loaded[key] = self._blocks.fitted(function, self._library.get(function))
                tally.build_s += loaded[key].planning_s
            except BudgetExceeded as error:
                log.warning("does_not_fit", function=key, reason=error)
                broken[key] = translate(error)
            except Exception as error:  # whatever an artifact breaks is its own
                log.exception("artifact_broken", function=key)
                broken[key] = translate(error)
        kept = []
        for job in jobs:
            key = str(job.function.ref)
            problem = broken.get(key) or outside(job.inputs, loaded[key].ranges)
            if problem is None:
                kept.append(job)
            else:
                results.ended.append(Ended.failed(job, problem))
        return kept

    def _run_each(self, runs: Sequence[Run], loaded: dict[str, Loaded], tally: Tally) -> Results:
        """One after the other; weights that the next one adds come in while one computes."""
        results = Results([], [])
        for run, after in zip_longest(runs, runs[1:], fillvalue=()):
            with self._prefetcher.until_its_turn(functions_of(after) - functions_of(run)):
                results.extend(self._run(run, loaded, tally))
        return results

    def _run(self, run: Run, loaded: dict[str, Loaded], tally: Tally) -> Results:
        """One run; in parts where memory wants it, job by job where one of them fails."""
        try:
            results, parts = self._attempt(run, loaded, tally)
            self._prefetcher.look()
        except Exception as error:  # hostile graphs reach here: nothing may escape
            jobs = jobs_of(run)
            if len(jobs) == 1:
                log.exception("job_failed", job=jobs[0].spec.id, function=jobs[0].function.ref)
                return Results([], [Ended.failed(jobs[0], self._why(jobs[0], error))])
            results, parts = Results([], []), self._parts(run, error, tally)
        results.extend(self._run_each(parts, loaded, tally))
        return results

    def _parts(self, run: Run, error: Exception, tally: Tally) -> list[Run]:
        """What to try after a run of several jobs that failed as a whole."""
        if lacked_memory(error):
            return self._smaller(run, run)
        if isinstance(error, BudgetExceeded):
            return halves(run)
        log.exception("run_failed", jobs=len(jobs_of(run)), functions=len(run))
        tally.isolated += 1
        return singly(run)

    def _smaller(self, run: Run, starved: Run) -> list[Run]:
        """Runs of the jobs of `run` that lacked memory: by themselves, then with fewer rows."""
        if len(run) != 1 or len(jobs_of(starved)) < len(run[0]):
            return [(batch,) for batch in starved]
        (batch,) = run
        manifest, rows = batch[0].function.manifest, rows_in(batch)
        ceiling = self._ceilings.lower(manifest, rows)
        log.warning("out_of_memory", function=batch[0].function.ref, rows=rows, ceiling=ceiling)
        return plan_runs(batch, self._ceilings.most_rows)

    def _why(self, job: Staged, error: Exception) -> FuseboxError:
        """Why a job failed that ran by itself."""
        if not lacked_memory(error):
            return translate(error)
        if job.rows > 1:
            self._ceilings.lower(job.function.manifest, job.rows)
        return too_large(job.function.ref, job.rows)

    def _attempt(
        self, run: Run, loaded: dict[str, Loaded], tally: Tally
    ) -> tuple[Results, list[Run]]:
        """Results, and runs to try instead for the jobs that lacked memory."""
        slots = [loaded[str(batch[0].function.ref)].slot for batch in run]
        began_s = time.perf_counter()
        with self._slots.acquire(slots, sum(map(scratch_bytes, run))) as lease:
            swap_s = time.perf_counter() - began_s
            self._prefetcher.used(lease)
            tally.swap_s += lease.load_s
            tally.swap_bytes += lease.loaded_bytes
            tally.disk_s += lease.disk_s
            tally.disk_bytes += lease.disk_bytes
            tally.cold.update(key.partition("@")[0] for key in lease.cold)
            with self._turn.device:
                wait_s = time.perf_counter() - began_s - swap_s
                run, ended = launchable(run, self._claims, tally)
                results, starved = self._launch(
                    run, loaded, lease, Times(wait_s=wait_s, swap_s=swap_s), tally
                )
                results.ended.extend(ended)
                return results, self._smaller(run, starved)

    def _launch(
        self, run: Run, loaded: dict[str, Loaded], lease: Lease, times: Times, tally: Tally
    ) -> tuple[Results, Run]:
        """Results, and the jobs among several that lacked memory."""
        if not run:
            return Results([], []), ()
        found = self._computed(run, loaded, lease)
        self._turn.after_run()
        tally.build_s += found.build_s
        tally.compute_s += found.compute_s
        tally.note_run(found.strategy, found.build_s + found.compute_s, time.time())
        _note_members(tally, run, found)
        # jobs of a function in blocks have waited for its plan, if it was made for them
        planning_s = sum(loaded[str(batch[0].function.ref)].planning_s for batch in run)
        times = times._replace(build_s=found.build_s + planning_s, compute_s=found.compute_s)
        # whose own weights were here has waited for its group, not swapped
        warm_times = times._replace(swap_s=0.0)
        results = Results([], [])
        jobs, starved = jobs_of(run), []
        for job, result in zip(jobs, chain(*found.results), strict=True):
            is_cold = str(job.function.ref) in lease.cold
            its_times = (times if is_cold else warm_times)._replace(hooks_s=job.hooks_s)
            if not isinstance(result, MemberError):
                results.ran.append(Ran(job, result, its_times))
            elif len(jobs) > 1 and lacked_memory(result):
                starved.append(job)
            else:
                log.warning("job_failed", job=job.spec.id, function=job.function.ref, reason=result)
                error = self._why(job, result)
                results.ended.append(Ended.failed(job, error, times=its_times))
        if results.ended and len(jobs) > 1:
            tally.isolated += 1
        return results, only(run, starved)

    def _computed(self, run: Run, loaded: dict[str, Loaded], lease: Lease) -> DagRun:
        first = loaded[str(run[0][0].function.ref)]
        if first.blocks is None:
            arriving = self._arriving.call_of(run[0], first, lease) if len(run) == 1 else None
            if arriving is not None:
                return self._dags.run_alone(arriving)
            return self._dags.run(
                [call_of(batch, loaded[str(batch[0].function.ref)], lease) for batch in run]
            )
        [batch] = run
        rows = rows_in(batch)
        call = first.blocks.call(first, rows, [job.inputs for job in batch], lease)
        found = self._dags.run_alone(call)
        self._blocks.note(first.slot.key, rows, found.compute_s)
        return found._replace(strategy="blocks")


def _note_members(tally: Tally, run: Run, found: DagRun) -> None:
    tally.built += found.is_built
    seconds: Sequence[float | None] = found.member_s or [None] * len(run)
    for batch, tier, its_s in zip(run, found.tiers, seconds, strict=True):
        tally.note_member(batch[0].function.ref, tier, its_s)


def launchable(run: Run, claims: Claims, tally: Tally) -> tuple[Run, list[Ended]]:
    """The last look before the device works: deadlines and fences."""
    now_s = time.time()
    # the settlement of a lost job would be void: it is left out
    lost = [job for job in jobs_of(run) if claims.is_lost(job.spec.id)]
    kept = without(run, lost)
    late = [job for job in jobs_of(kept) if job.spec.deadline_s <= now_s]
    tally.expired += len(late)
    return without(kept, late), [expired(job) for job in late]


def expired(job: Fetched | Staged) -> Ended:
    """The end of a job whose answer would come too late."""
    return Ended.failed(job, DeadlineExceeded(stage="launch"), Status.EXPIRED)
