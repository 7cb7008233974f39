"""Workers die or stand still, at every step of a job."""

from __future__ import annotations

import os
import signal
import time

from tests.e2e.faults.conftest import LEASE_S, Cluster, RunTrial
from tests.e2e.faults.processes import cpu_ticks
from tests.e2e.faults.waiting import eventually

# of 10 ms; the graph takes 30 or more with 128 rows
COMPUTING_TICKS = 8


def test_jobs_queued_or_claimed_when_a_worker_is_killed_are_run_by_the_other(
    cluster: Cluster, trial: RunTrial
) -> None:
    """The messages of the claimed ones lie in the queue of a worker that will never read them."""
    with trial("kill -9 of a worker, jobs queued and claimed") as fault:
        doomed, other = cluster.workers
        name = cluster.worker_id(doomed)
        for worker in (doomed, other):
            os.kill(worker, signal.SIGSTOP)
        # both stand still with all they can be given, until jobs wait in the queue itself
        eventually(lambda: name in cluster.store.queue.groups().values(), "a group claimed for it")
        eventually(lambda: cluster.store.telemetry.conservation().queued >= 4, "jobs that wait")
        fault.strike()
        os.kill(doomed, signal.SIGKILL)
        os.kill(other, signal.SIGCONT)


def test_a_job_that_computes_when_its_worker_is_killed_is_computed_again(
    cluster: Cluster, trial: RunTrial
) -> None:
    """Between its preprocess and its postprocess there is the graph alone."""
    with trial("kill -9 of a worker, computing") as fault:
        number = fault.load.number()
        cluster.gate.hold("preprocess", number)
        job = fault.load.submit("gated", number, {"number": number, "rows": 128})
        cluster.gate.wait("preprocess", number)
        doomed = cluster.worker_of(job)
        cluster.gate.release("preprocess", number)
        wait_until_computing(doomed)
        fault.strike()
        os.kill(doomed, signal.SIGKILL)
        assert cluster.gate.attempts("postprocess", number) == 0
        assert fault.job(job, wait_s=30)["attempts"] == 2


def test_a_job_computed_but_not_settled_when_its_worker_is_killed_settles_once(
    cluster: Cluster, trial: RunTrial
) -> None:
    """Its postprocess has begun; the outcome is that of the second attempt."""
    with trial("kill -9 of a worker, computed, not settled") as fault:
        number = fault.load.number()
        cluster.gate.hold("postprocess", number)
        job = fault.load.submit("gated", number, {"number": number})
        cluster.gate.wait("postprocess", number)
        doomed = cluster.worker_of(job)
        fault.strike()
        os.kill(doomed, signal.SIGKILL)
        assert fault.job(job, wait_s=30)["attempts"] == 2
        cluster.gate.release("postprocess", number)


def test_a_worker_that_slept_past_its_lease_is_fenced_off_when_it_wakes(
    cluster: Cluster, trial: RunTrial
) -> None:
    """Its attempt ends after another has settled: counted, and not seen by anybody."""
    with trial("SIGSTOP of a worker past its lease, SIGCONT") as fault:
        before = fault.counters().get("fenced", 0)
        number = fault.load.number()
        cluster.gate.hold("postprocess", number)
        job = fault.load.submit("gated", number, {"number": number})
        cluster.gate.wait("postprocess", number)
        sleeper = cluster.worker_of(job)
        fault.strike()
        os.kill(sleeper, signal.SIGSTOP)
        asleep_from_s = time.time()
        settled = fault.job(job, wait_s=30)
        assert (settled["status"], settled["attempts"]) == ("succeeded", 2)
        eventually(lambda: time.time() > asleep_from_s + LEASE_S, "the end of its lease")
        cluster.gate.release("postprocess", number)
        os.kill(sleeper, signal.SIGCONT)
        eventually(lambda: fault.counters().get("fenced", 0) > before, "a void settlement")
        assert fault.job(job) == settled


def wait_until_computing(worker: int) -> None:
    """Wait until the worker has used the processor for longer than reading its inputs takes."""
    before = cpu_ticks(worker)
    eventually(lambda: cpu_ticks(worker) >= before + COMPUTING_TICKS, "a worker that computes")
