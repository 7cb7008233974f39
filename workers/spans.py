"""Spans of jobs, made when they have settled from what was measured anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contract.job import TIMINGS, JobId, Outcome, Status
from contract.origin import Origin
from contract.store.queue import Fetched, GroupReport, Settlement
from contract.trace import TraceContext, parse
from contract.tracing import CONSUMER, Span, Tracing, Value
from contract.trail import Planned


class Stage(NamedTuple):
    """One stage of a job; Unix seconds."""

    name: str
    start_s: float
    end_s: float


def stages(accepted_at_s: float, timings_ms: Mapping[str, float]) -> list[Stage]:
    """The stages that took time, one after another.

    How long each took was measured; that they came in this order is a simplification: hooks run
    before the device and behind it.
    """
    found, at_s = [], accepted_at_s
    for name in TIMINGS:
        seconds = timings_ms.get(name, 0.0) / 1000
        if name != "total" and seconds:
            found.append(Stage(name, at_s, at_s + seconds))
            at_s += seconds
    return found


class JobSpans:
    """Exports a span for each job that settles here, with one below for each stage."""

    def __init__(self, tracing: Tracing, worker: str) -> None:
        self._tracing = tracing
        self._worker = worker

    def write(
        self,
        fetched: Mapping[JobId, Fetched],
        settlements: Sequence[Settlement],
        settled: Sequence[bool],
        report: GroupReport,
    ) -> None:
        """The spans of those that this worker has settled and whose callers keep their traces."""
        for settlement, is_settled in zip(settlements, settled, strict=True):
            job = fetched.get(settlement.claim.job)
            if job is None or not is_settled or not job.origin:
                continue
            origin = Origin.decode(job.origin)
            parent = parse(origin.traceparent, origin.tracestate)
            if parent is not None and parent.is_sampled:
                self._write(job, origin, parent, settlement, report)

    def _write(
        self,
        job: Fetched,
        origin: Origin,
        parent: TraceContext,
        settlement: Settlement,
        report: GroupReport,
    ) -> None:
        spec, outcome = job.spec, settlement.outcome
        end_s = spec.accepted_at_s + settlement.total_us / 1e6
        span = self._tracing.start(
            f"job {spec.function}", parent, CONSUMER, spec.accepted_at_s,
            self._attributes(job, origin, outcome, report),
        )  # fmt: skip
        if job.planned:
            span.note("sent to worker", Planned.decode(job.planned).claimed_at_s)
        for stage in stages(spec.accepted_at_s, outcome.timings_ms):
            self._tracing.start(stage.name, span.context, start_s=stage.start_s).end(stage.end_s)
        _end(span, outcome, end_s)

    def _attributes(
        self, job: Fetched, origin: Origin, outcome: Outcome, report: GroupReport
    ) -> dict[str, Value]:
        spec = job.spec
        found: dict[str, Value] = {
            "fusebox.job": spec.id,
            "fusebox.function": spec.function,
            "fusebox.version": spec.version,
            "fusebox.rows": spec.rows,
            "fusebox.attempt": job.claim.fence,
            "fusebox.status": str(outcome.status),
            "fusebox.worker": self._worker,
            "fusebox.group": report.group,
            "fusebox.group.jobs": outcome.group_jobs,
            "fusebox.group.functions": outcome.group_functions,
            "fusebox.group.strategies": list(report.strategies),
            "fusebox.group.predicted_ms": report.predicted_s * 1000,
            "fusebox.group.measured_ms": report.measured_s * 1000,
        }
        named = {"fusebox.alias": origin.alias, "fusebox.cause": origin.cause}
        return found | {name: value for name, value in named.items() if value}


def _end(span: Span, outcome: Outcome, end_s: float) -> None:
    if outcome.status != Status.SUCCEEDED and outcome.error is not None:
        span.say("error.type", outcome.error["code"])
        span.fail(str(outcome.error["detail"]))
    span.end(end_s)
