"""Why a job waited, and why it was refused: as fields, and as one sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contract.job import Job, JobSpec, Outcome, Status
from contract.store.queue import GroupReport
from contract.trail import Ahead, Planned

Record = dict[str, Any]
# stages of a job's timings, as a sentence says them
_WAITED = {
    "queue": "waiting for a place",
    "group": "waiting for its group",
    "swap": "bringing in weights",
    "build": "building the fused DAG",
    "compute": "computing",
    "hooks": "in the function's own code",
}


def explain(job: Job, now_s: float) -> Record:
    """What is known of a job's way; fields that are not known yet are left out."""
    trail, outcome = job.trail, job.outcome
    ahead = Ahead.decode(trail.ahead) if trail.ahead else None
    # of a job that was queued again the note is of the claim that was lost
    is_sent = bool(trail.planned) and job.status is not Status.QUEUED
    planned = Planned.decode(trail.planned) if is_sent else None
    ran = GroupReport.decode(trail.ran) if trail.ran else None
    found: Record = {"sentence": _sentence(job, ahead, planned, ran, now_s)}
    if outcome is not None and (most := _most(outcome)):
        found["longest"] = most
    found["queue"] = _queue(ahead, planned)
    if planned is not None:
        found["predicted_ms"] = _in_ms(planned.predicted_s)
    if ran is not None:
        found["group"] = group_record(ran)
    elif trail.group:
        found["group"] = {"id": trail.group, "worker": trail.worker}
    if outcome is not None and outcome.error is not None:
        found["reason"] = outcome.error["code"]
        if job.status is Status.REFUSED:
            found["refused"] = _refused(outcome.error)
    if (is_late := _is_late(job.spec, outcome)) is not None:
        found["is_late"] = is_late
    return found


def group_record(ran: GroupReport) -> Record:
    """A group as workers report it; milliseconds, and Unix seconds of when it was on the device."""
    return {
        "id": ran.group,
        "worker": ran.worker,
        "jobs": ran.jobs,
        "members": [
            {"function": name, "version": version, "rows": rows}
            for name, version, rows in ran.members
        ],
        "strategies": list(ran.strategies),
        "predicted_ms": _in_ms(ran.predicted_s),
        "measured_ms": _in_ms(ran.measured_s),
        "swap_ms": _in_ms(ran.swap_s),
        "build_ms": _in_ms(ran.build_s),
        "compute_ms": _in_ms(ran.compute_s),
        "taken_at_s": ran.taken_at_s,
        "began_at_s": ran.began_at_s,
        "ended_at_s": ran.ended_at_s,
    }


def _refused(error: Mapping[str, Any]) -> Record:
    """What was predicted of a job that could not be met; Unix seconds."""
    return {
        "why": error["reason"],
        "earliest_end_s": error["earliest_end"],
        "deadline_s": error["deadline"],
    }


def _queue(ahead: Ahead | None, planned: Planned | None) -> Record:
    found: Record = {}
    if ahead is not None:
        found |= {"jobs_ahead": ahead.jobs, "own_jobs_ahead": ahead.own}
    if planned is not None:
        found |= {
            "jobs_before": planned.before,
            "functions_before": dict(planned.before_of),
            "is_at_least": planned.is_at_least,
        }
    return found


def _most(outcome: Outcome) -> str | None:
    """The stage that took longest."""
    stages = {stage: ms for stage, ms in outcome.timings_ms.items() if stage in _WAITED and ms}
    return max(stages, key=stages.__getitem__, default=None)


def _is_late(spec: JobSpec, outcome: Outcome | None) -> bool | None:
    """Whether it was answered later than due; None where it was not answered."""
    if outcome is None or outcome.status is not Status.SUCCEEDED:
        return None
    total_ms = outcome.timings_ms.get("total")
    return None if total_ms is None else total_ms > 1000 * (spec.due_at_s - spec.accepted_at_s)


def _sentence(
    job: Job,
    ahead: Ahead | None,
    planned: Planned | None,
    ran: GroupReport | None,
    now_s: float,
) -> str:
    outcome = job.outcome
    if outcome is None:
        parts = [_so_far(job, ahead, planned, now_s)]
    elif outcome.error is not None:
        parts = [f"{str(job.status).capitalize()}: {outcome.error['detail'].rstrip('.')}"]
        parts += _parts(outcome, planned)
    else:
        parts = [f"Answered in {_ms(outcome.timings_ms.get('total', 0.0))}"]
        parts += _parts(outcome, planned)
    if outcome is not None and ran is not None:
        parts.append(_ran(ran))
    return "; ".join(parts) + "."


def _so_far(job: Job, ahead: Ahead | None, planned: Planned | None, now_s: float) -> str:
    spec = job.spec
    if planned is None:
        said = f"Waits for a place since {_ms(1000 * max(0.0, now_s - spec.accepted_at_s))}"
        if ahead is not None:
            said += f"; {_jobs(ahead.jobs)} waited when it came, {ahead.own} of its function"
        return said
    waited_ms = 1000 * max(0.0, planned.claimed_at_s - spec.accepted_at_s)
    return (
        f"Sent to worker {job.trail.worker} after {_ms(waited_ms)}{_behind(planned)}; "
        f"its group is predicted to take {_ms(1000 * planned.predicted_s)}"
    )


def _parts(outcome: Outcome, planned: Planned | None) -> list[str]:
    """The two stages that took longest, and what went before."""
    stages = sorted(
        ((ms, stage) for stage, ms in outcome.timings_ms.items() if stage in _WAITED and ms),
        reverse=True,
    )
    if not stages:
        return []
    said = [
        f"{_ms(ms)} {_WAITED[stage]}" + (_behind(planned) if stage == "queue" and planned else "")
        for ms, stage in stages[:2]
    ]
    return [", ".join(said)]


def _behind(planned: Planned) -> str:
    if not planned.before:
        return ""
    of = ", ".join(f"{count} of {name}" for name, count in planned.before_of)
    least = "at least " if planned.is_at_least else ""
    return f" behind {least}{_jobs(planned.before)} ({of})"


def _ran(ran: GroupReport) -> str:
    said = f"ran on {ran.worker} in a group of {_jobs(ran.jobs)}"
    if len(ran.members) > 1:
        said += f" of {len(ran.members)} functions"
    if ran.strategies:
        said += f" ({', '.join(ran.strategies)})"
    return f"{said}, predicted {_ms(1000 * ran.predicted_s)}, measured {_ms(1000 * ran.measured_s)}"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.3g} s"


def _in_ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def groups_record(groups: Sequence[GroupReport]) -> Mapping[str, Any]:
    """GET /v1/groups."""
    return {"groups": [group_record(group) for group in groups]}
