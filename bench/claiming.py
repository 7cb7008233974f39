"""What sending groups takes: making their messages, and moves of the store, for one or for many.

The scheduler decides for all places that are free and claims what it decided in one move, which
puts a message into the queue of each group's worker; the decisions themselves are
`bench/decision_time.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from _intervals import ratio_interval
from _report import Row, finish
from _store import empty_store

from contract import keys
from contract.job import TENSORS, Claim, JobId, JobSpec, Submission, new_job_id
from contract.settings import Settings
from contract.store import Store
from contract.store.queue import PlannedGroup
from contract.trail import Planned
from workers.celery_app import Envelopes, make_app
from workers.scheduling.loop import CLAIM_AT_ONCE

LEADER, WORKER = "leader", "w"
GROUP_JOBS = 4
LEASE_S = 600.0


def submit(store: Store, count: int) -> list[JobId]:
    """Jobs that wait."""
    now_s = time.time()
    end_s = now_s + LEASE_S
    submissions = [
        Submission(
            JobSpec(new_job_id(), "echo", 1, 1, now_s, end_s, end_s, TENSORS), b"x" * 64, True, "g"
        )
        for _ in range(count)
    ]
    assert store.jobs.submit(submissions, 10**9, 10**9) == [None] * count
    return [submission.spec.id for submission in submissions]


def groups_of(store: Store, envelopes: Envelopes, number: int) -> list[PlannedGroup]:
    """Groups of new jobs, as the scheduler plans them."""
    jobs = submit(store, CLAIM_AT_ONCE * GROUP_JOBS)
    note = Planned(time.time(), 0.01, 3, [("echo", 3)]).encode()
    made = []
    for k in range(CLAIM_AT_ONCE):
        group, its = f"{number}-{k}", jobs[k::CLAIM_AT_ONCE]
        message = envelopes.seal(WORKER, group, its)
        made.append(PlannedGroup(WORKER, group, its, [note] * GROUP_JOBS, message))
    return made


def claim(store: Store, groups: list[PlannedGroup]) -> list[list[Claim]]:
    """All of them in one move."""
    claimed = store.queue.claim_all(LEADER, time.time() + LEASE_S, groups)
    assert claimed is not None
    assert all(len(claims) == GROUP_JOBS for claims in claimed)
    return claimed


def timed_ms(action: Callable[[], object]) -> float:
    """How long it takes."""
    began_s = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - began_s)


def measure(rounds: int) -> list[Row]:
    """Rounds in which each way has as many groups."""
    apart_ms, together_ms, messages_ms = [], [], []
    with empty_store() as store:
        envelopes = Envelopes(make_app(Settings(store_url=store.server.url)))
        assert store.workers.lead("scheduler", LEADER, LEASE_S)
        for number in range(rounds):
            one_by_one = groups_of(store, envelopes, 2 * number)
            at_once = groups_of(store, envelopes, 2 * number + 1)
            for group in one_by_one:
                apart_ms.append(timed_ms(partial(claim, store, [group])))
            together_ms.append(timed_ms(partial(claim, store, at_once)) / CLAIM_AT_ONCE)
            messages_ms += [
                timed_ms(partial(envelopes.seal, WORKER, planned.group, planned.jobs))
                for planned in at_once
            ]
            store.server.redis.delete(keys.queue(WORKER))
        envelopes.close()
    case = f"claim and send a group of {GROUP_JOBS} jobs"
    per_round_ms = [
        sum(apart_ms[k : k + CLAIM_AT_ONCE]) / CLAIM_AT_ONCE
        for k in range(0, len(apart_ms), CLAIM_AT_ONCE)
    ]
    gain = median(per_round_ms) / median(together_ms)
    interval = ratio_interval(per_round_ms, together_ms)
    return [
        Row(f"{case}, each by itself", median(apart_ms), "ms"),
        Row(f"{case}, {CLAIM_AT_ONCE} in one move", median(together_ms), "ms"),
        Row(f"{case}: each by itself / in one move", gain, "x", 1.0, True, interval),
        Row("making the message of a group", median(messages_ms), "ms"),
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    return finish(measure(5 if options.quick else 100), "Sending groups", options.json)


if __name__ == "__main__":
    sys.exit(main())
