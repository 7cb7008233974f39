"""Jobs of one function: joined into one run, or run one by one, whichever measures faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from torch import Tensor

from fusion.codegen import Program
from fusion.plan import AnyJob, JobResult, Plan, row_bucket
from fusion.strategies.choice import Choice
from fusion.strategies.work import MEMBER_ERRORS
from fusion.tiers import synchronize

JOINED, APART = "joined", "apart"


class Joining:
    """What was measured, by the number of jobs; begins anew when the function's tiers change."""

    def __init__(self, program: Program, bucket: int) -> None:
        tiers, graph = program.tiers, program.graph
        self._tiers = tiers
        self._sizes = (len(graph.weights), len(graph.inputs))
        # jobs of a graph with fixed rows are to be filled up first
        self._may_be_quiet = graph.fixed_rows is None
        self._bucket = bucket
        self._version = tiers.version
        self._choices: dict[int, Choice] = {}
        # runs one by one until the choice is asked again
        self._quiet: dict[int, int] = {}

    def run_quietly(
        self, weights: Sequence[Tensor], jobs: Sequence[AnyJob]
    ) -> list[JobResult] | None:
        """One by one, unmeasured and without a plan, where that is known to be faster.

        None where it is not, or where something is wrong with a job: then it is to be planned.
        """
        left = self._quiet.get(len(jobs))
        if not left or self._version != self._tiers.version or len(weights) != self._sizes[0]:
            return None
        self._quiet[len(jobs)] = left - 1
        results: list[JobResult] = []
        for job in jobs:
            if type(job) is not list or len(job) != self._sizes[1]:
                return None
            rows = job[0].size(0)
            try:
                outputs = self._tiers.run(min(row_bucket(rows), self._bucket), weights, job)
            except MEMBER_ERRORS:
                return None
            if not _are_of(rows, job) or not _are_of(rows, outputs):
                return None
            results.append(outputs)
        return results

    def run(self, plan: Plan, run_joined: Callable[[Plan], list[JobResult]]) -> list[JobResult]:
        """The way whose turn it is, measured; first each number of rows finds its tier."""
        if self._version != self._tiers.version:
            self._version, self._choices, self._quiet = self._tiers.version, {}, {}
        count = len(plan.jobs)
        choice = self._choices.get(count)
        if choice is None:
            if not self._tiers.is_settled(plan.bucket):
                return run_joined(plan)
            if not all(self._tiers.is_settled(bucket) for bucket in plan.job_buckets):
                return plan.run_apart()
            choice = self._choices[count] = Choice((JOINED, APART))
        name = choice.name()
        started_s = perf_counter()
        results = run_joined(plan) if name == JOINED else plan.run_apart()
        synchronize(plan.jobs[0][0])
        choice.record(name, perf_counter() - started_s)
        if choice.best == APART and self._may_be_quiet:
            self._quiet[count] = choice.take_quiet()
        return results


def _are_of(rows: int, tensors: Sequence[Tensor]) -> bool:
    return all(x.dim() and x.size(0) == rows for x in tensors)
