"""One call of a fused DAG made ready: its jobs joined where they may be, and told apart again."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from fusion.allocation import is_out_of_memory
from fusion.codegen import Program
from fusion.errors import FusionError, IntegrityError, MemberError
from fusion.ir import Graph
from fusion.strategies.concat import Job, check_integrity, concat, filled_up, rows_of, split
from fusion.strategies.work import MEMBER_ERRORS, Outcome, Work, attempt

AnyJob = Job | Mapping[str, Tensor]  # inputs in the graph's order, or by name
JobResult = list[Tensor] | MemberError  # outputs in the graph's order, or why there are none


def row_bucket(rows: int) -> int:
    """The power of two from `rows` on: few DAGs serve all numbers of rows."""
    return 1 << (rows - 1).bit_length()


class Plan(NamedTuple):
    """What one member does in a run."""

    member: int
    program: Program
    bucket: int  # the most rows of a run
    weights: Sequence[Tensor]
    jobs: Sequence[Job]
    rows: Sequence[int]  # per job
    work: Work | None = None  # None: the jobs run one by one

    @property
    def is_joinable(self) -> bool:
        """Whether rows of several jobs may share a run."""
        return len(self.jobs) > 1 and self.program.graph.batchable

    def joined(self) -> "Plan":
        """The same with one work of all jobs; without where their shapes do not join."""
        try:
            work = self._work(concat(self.jobs))
        except (*MEMBER_ERRORS, IntegrityError):  # they run apart, those at fault fail there
            return self
        return self._replace(work=work)

    def _work(self, job: Job) -> Work:
        """Raises IntegrityError for rows that a static graph does not take."""
        graph = self.program.graph
        if graph.fixed_rows is not None:
            if not graph.batchable and rows_of(job) != graph.fixed_rows:
                raise IntegrityError(f"{rows_of(job)} rows, the graph takes {graph.fixed_rows}")
            job = filled_up(job, graph.fixed_rows)
        return Work(self.program, self.weights, job, self.bucket)

    def results(self, outcome: Outcome) -> list[JobResult]:
        """Per job its share of what the work gave."""
        # where memory lacks no job is at fault: whoever has the jobs makes smaller runs of them
        if isinstance(outcome, Exception) and len(self.jobs) > 1 and not is_out_of_memory(outcome):
            return self.run_apart()  # only the job that is at fault fails
        try:
            return [*split(self._own(_unwrap(outcome), sum(self.rows)), self.rows)]
        except (*MEMBER_ERRORS, FusionError) as error:
            return [self._error(j, error) for j in range(len(self.jobs))]

    def run_apart(self) -> list[JobResult]:
        """Each job on its own."""
        return [self._run_job(j) for j in range(len(self.jobs))]

    @property
    def job_buckets(self) -> set[int]:
        """Row buckets of the jobs by themselves."""
        return {self._bucket_of(rows) for rows in self.rows}

    def _bucket_of(self, rows: int) -> int:
        return min(row_bucket(self.program.graph.fixed_rows or rows), self.bucket)

    def _run_job(self, j: int) -> JobResult:
        rows = self.rows[j]
        try:
            work = self._work(self.jobs[j])._replace(rows=self._bucket_of(rows))
            return split(self._own(_unwrap(attempt(work)), rows), [rows])[0]
        except (*MEMBER_ERRORS, FusionError) as error:
            return self._error(j, error)

    def _own(self, outputs: list[Tensor], rows: int) -> list[Tensor]:
        """The outputs without the rows that only filled a static graph up."""
        fixed_rows = self.program.graph.fixed_rows
        if fixed_rows is None or fixed_rows == rows:
            return outputs
        check_integrity(outputs, fixed_rows)
        return [output[:rows] for output in outputs]

    def _error(self, j: int, cause: Exception) -> MemberError:
        error = MemberError(self.member, j, f"{type(cause).__name__}: {cause}")
        error.__cause__ = cause
        return error


def make_plan(
    member: int, program: Program, bucket: int, weights: Sequence[Tensor], given: Sequence[AnyJob]
) -> Plan:
    """Jobs in order, not joined yet; raises IntegrityError when they do not fit the program."""
    graph = program.graph
    if not given or len(weights) != len(graph.weights):
        raise IntegrityError(
            f"member {member} has {len(graph.weights)} weights and at least one job, "
            f"got {len(weights)} and {len(given)}"
        )
    jobs = [_in_order(graph, job) for job in given]
    rows = [rows_of(job) for job in jobs]
    plan = Plan(member, program, bucket, weights, jobs, rows)
    return plan.joined() if len(jobs) == 1 else plan


def _in_order(graph: Graph, job: AnyJob) -> Job:
    # lists first: the test for a mapping is slow
    if not isinstance(job, list | tuple) and isinstance(job, Mapping):
        if job.keys() != {spec.name for spec in graph.inputs}:
            raise IntegrityError(f"a job has inputs {sorted(job)}, its graph takes {_names(graph)}")
        return [job[spec.name] for spec in graph.inputs]
    if len(job) != len(graph.inputs):
        raise IntegrityError(f"a job has {len(job)} inputs, its graph takes {_names(graph)}")
    return job


def _names(graph: Graph) -> list[str]:
    return [spec.name for spec in graph.inputs]


def _unwrap(outcome: Outcome) -> list[Tensor]:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
