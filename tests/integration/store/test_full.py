"""A store without memory takes nothing in, and goes on with what it has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from contract import keys
from contract.errors import StoreUnavailable
from contract.job import Status
from contract.settings import Settings
from contract.store import Store
from contract.store.queue import PlannedGroup
from contract.store.workers import DagCacheReport, WorkerReport
from tests.integration.store.builders import LEADER, a_manifest, a_submission, deploy, lead, submit
from tests.integration.store.test_jobs import claim, settle
from workers.celery_app import Envelopes, make_app


@contextmanager
def no_memory_left(store: Store) -> Iterator[None]:
    """The server may use one byte."""
    store.server.redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        store.server.redis.config_set("maxmemory", 0)


def test_what_is_new_is_refused_with_the_reason(store: Store) -> None:
    """And leaves no trace: neither a job nor a version."""
    function = deploy(store)
    with no_memory_left(store):
        with pytest.raises(StoreUnavailable, match="full"):
            store.jobs.submit([a_submission(function)], 9, 9)
        with pytest.raises(StoreUnavailable, match="full"):
            store.functions.publish("echo", "e" * 64, a_manifest())
    assert store.telemetry.conservation().accepted == 0
    assert [f.version for f in store.functions.all()] == [1]


def test_accepted_jobs_run_to_their_end(store: Store, redis_url: str) -> None:
    """Every step of the way works: were one refused, no job would ever end and make room."""
    [submission, other] = submit(store, deploy(store), 2)
    lead(store)
    envelopes = Envelopes(make_app(Settings(store_url=redis_url)))
    with no_memory_left(store):
        assert store.workers.lead("scheduler", LEADER, 60)
        store.workers.report(a_report("w"), 60, is_news=True)
        assert [report.id for report in store.workers.all()] == ["w"]
        message = envelopes.seal("w", "g", [submission.spec.id])
        planned = PlannedGroup("w", "g", [submission.spec.id], message=message)
        found = store.queue.claim_all(LEADER, time.time() + 60, [planned])
        assert found is not None
        [[held]] = found
        assert store.server.redis.llen(keys.queue("w")) == 1
        assert store.queue.renew([held], time.time() + 60) == set()
        assert settle(store, held) == [True]
        claim(store, other.spec.id, group="h", lease_s=-1)
        assert store.queue.reap(time.time(), 3) == (1, 0)
        store.jobs.cancel(other.spec.id)
    envelopes.close()
    assert store.jobs.get(submission.spec.id).status is Status.SUCCEEDED
    assert store.telemetry.conservation().drift == 0


def a_report(worker: str) -> WorkerReport:
    """A heartbeat."""
    return WorkerReport(
        worker, "cpu", "CPU", 1, 2, 10**9, 0, 0, 0, {}, [], DagCacheReport(), 0, 0, False, 0.0, 0.0
    )
