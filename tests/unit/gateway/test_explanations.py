"""Why a job waited, from the notes on its way."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from contract.errors import DeadlineExceeded, DeadlineUnmeetable
from contract.job import TENSORS, Job, JobId, JobSpec, Outcome, Status
from contract.store.queue import GroupReport
from contract.trail import Planned, Trail
from gateway.explanations import explain
from gateway.timeline import WIDTH, timelines

SPEC = JobSpec(JobId("0" * 24), "echo", 1, 2, 100.0, 100.05, 160.0, TENSORS)
PLANNED = Planned(100.04, 0.012, 40, (("resnet", 30), ("bert", 10))).encode()
RAN = GroupReport(
    "g1", "w1", [("echo", 1, 2), ("bert", 3, 4)], 0.010, 0.003, 0.001,
    strategies=["branches"], predicted_s=0.012, taken_at_s=100.041, began_at_s=100.045,
    ended_at_s=100.056, jobs=3,
)  # fmt: skip
TIMINGS = {"queue": 41.0, "group": 2.0, "swap": 3.0, "build": 1.0, "compute": 10.0, "total": 57.0}
DONE = Outcome(Status.SUCCEEDED, TIMINGS, outputs={})
LATE = Outcome.of_error(DeadlineExceeded(stage="queue"), Status.EXPIRED)


def a_job(status: Status, outcome: Outcome | None = None, **notes: Any) -> Job:
    """A job with these notes."""
    return Job(SPEC, status, 1, outcome, Trail(**notes))


def test_a_job_that_waits_says_what_waited_when_it_came() -> None:
    """It has not been sent yet, so nothing more is known."""
    found = explain(a_job(Status.QUEUED, ahead=b"12 3"), 100.12)
    assert found == {
        "sentence": "Waits for a place since 120 ms; 12 jobs waited when it came, "
        "3 of its function.",
        "queue": {"jobs_ahead": 12, "own_jobs_ahead": 3},
    }


def test_a_job_that_is_queued_again_waits_as_if_it_had_not_been_sent() -> None:
    """The claim that was lost explains nothing."""
    found = explain(a_job(Status.QUEUED, ahead=b"0 0", planned=PLANNED), 101.0)
    assert found["queue"] == {"jobs_ahead": 0, "own_jobs_ahead": 0}
    assert "predicted_ms" not in found


def test_a_job_that_runs_says_where_and_what_went_before_it() -> None:
    """And what its group is predicted to take."""
    notes = {"ahead": b"12 3", "planned": PLANNED, "worker": "w1", "group": "g1"}
    found = explain(a_job(Status.RUNNING, **notes), 100.1)
    assert found["sentence"] == (
        "Sent to worker w1 after 40 ms behind 40 jobs (30 of resnet, 10 of bert); "
        "its group is predicted to take 12 ms."
    )
    assert found["queue"] == {
        "jobs_ahead": 12,
        "own_jobs_ahead": 3,
        "jobs_before": 40,
        "functions_before": {"resnet": 30, "bert": 10},
        "is_at_least": False,
    }
    assert (found["predicted_ms"], found["group"]) == (12.0, {"id": "g1", "worker": "w1"})


def test_an_answered_job_says_with_whom_it_ran_and_what_was_predicted() -> None:
    """Stages that took longest come first; late is later than its SLO."""
    notes = {"ahead": b"12 3", "planned": PLANNED, "ran": RAN.encode()}
    found = explain(a_job(Status.SUCCEEDED, DONE, **notes), 200.0)
    assert found["sentence"] == (
        "Answered in 57 ms; 41 ms waiting for a place behind 40 jobs (30 of resnet, 10 of bert), "
        "10 ms computing; ran on w1 in a group of 3 jobs of 2 functions (branches), "
        "predicted 12 ms, measured 14 ms."
    )
    assert (found["longest"], found["is_late"]) == ("queue", True)
    assert found["group"] == {
        "id": "g1",
        "worker": "w1",
        "jobs": 3,
        "members": [
            {"function": "echo", "version": 1, "rows": 2},
            {"function": "bert", "version": 3, "rows": 4},
        ],
        "strategies": ["branches"],
        "predicted_ms": 12.0,
        "measured_ms": 14.0,
        "swap_ms": 3.0,
        "build_ms": 1.0,
        "compute_ms": 10.0,
        "taken_at_s": 100.041,
        "began_at_s": 100.045,
        "ended_at_s": 100.056,
    }


def test_a_job_that_was_not_answered_says_why() -> None:
    """The code for programs, the detail for people."""
    found = explain(a_job(Status.EXPIRED, LATE, ahead=b"1 1"), 200.0)
    assert found["reason"] == "deadline_exceeded"
    assert found["sentence"].startswith("Expired: ")
    assert "is_late" not in found


def test_a_refused_job_says_what_was_predicted() -> None:
    """When it could have ended at the earliest, and by when it would have had to."""
    error = DeadlineUnmeetable(
        "The job would end in 3 s.", reason="workers_busy", earliest_end=103.0, deadline=101.0
    )
    refused = Outcome.of_error(error, Status.REFUSED)
    found = explain(a_job(Status.REFUSED, refused, ahead=b"9 1"), 200.0)
    assert found == {
        "sentence": "Refused: The job would end in 3 s.",
        "queue": {"jobs_ahead": 9, "own_jobs_ahead": 1},
        "reason": "deadline_unmeetable",
        "refused": {"why": "workers_busy", "earliest_end_s": 103.0, "deadline_s": 101.0},
    }


@pytest.mark.parametrize(
    ("status", "outcome"), [(Status.QUEUED, None), (Status.RUNNING, None), (Status.SUCCEEDED, DONE)]
)
def test_jobs_of_an_earlier_platform_have_no_notes(status: Status, outcome: Outcome | None) -> None:
    """They are shown all the same."""
    found = explain(a_job(status, outcome), 100.1)
    assert found["sentence"].endswith(".")
    assert found["queue"] == {}
    assert "group" not in found


def test_a_report_of_an_earlier_worker_is_explained() -> None:
    """It lacks the newer fields."""
    old = GroupReport("g", "w", [("echo", 1, 1)], 0.001, 0.0, 0.0)
    short = msgpack.packb(list(old)[:8])
    assert isinstance(short, bytes)
    assert GroupReport.decode(short)._replace(members=old.members) == old
    found = explain(a_job(Status.SUCCEEDED, DONE, ran=short), 200.0)
    assert found["group"]["strategies"] == []


def test_a_timeline_is_of_the_second_before_the_last_end() -> None:
    """By worker; what began before is cut, what ended before is left out, as are groups without."""
    groups = [
        RAN._replace(worker="b", began_at_s=99.5, ended_at_s=100.0),
        RAN._replace(worker="a", began_at_s=98.9, ended_at_s=99.25),
        RAN._replace(worker="a", began_at_s=98.0, ended_at_s=99.0),
        RAN._replace(worker="a", began_at_s=0.0, ended_at_s=0.0),
    ]
    a, b = timelines(groups)
    assert [(line.worker, len(line.bars), line.busy_share) for line in (a, b)] == [
        ("a", 1, 0.25),
        ("b", 1, 0.5),
    ]
    assert a.bars[0][:2] == (0.0, WIDTH / 4)
    assert b.bars[0][:2] == (WIDTH / 2, WIDTH / 2)
    assert a.bars[0].title == "echo@1 x2, bert@3 x4; branches; predicted 12 ms, measured 14 ms"
    assert timelines([]) == []
