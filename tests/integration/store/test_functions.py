"""What is left of a function when it is removed."""

from __future__ import annotations

from contract import keys
from contract.function import FunctionRef
from contract.store import Store
from contract.store.telemetry import now_line
from tests.integration.claiming import claim_group
from tests.integration.store.builders import deploy, submit


def test_counters_and_log_of_a_removed_function_expire(store: Store) -> None:
    """Unless it is deployed again; and the number of its next version stays."""
    deploy(store, "f")
    store.telemetry.write_log("f", now_line(1, "", "info", "hello"))
    store.server.redis.hset(keys.stats("f"), "rows", 3)
    store.functions.retire(FunctionRef("f"))
    store.functions.digests()
    ttls = [store.server.redis.ttl(key) for key in (keys.stats("f"), keys.log("f"))]
    assert all(0 < ttl <= 60 for ttl in ttls), ttls  # type: ignore[operator]  # redis-py's union
    assert deploy(store, "f").version == 2
    assert [store.server.redis.ttl(k) for k in (keys.stats("f"), keys.log("f"))] == [-1, -1]


def test_a_removed_version_is_known_until_its_last_job_ends(store: Store) -> None:
    """Then it is removed in the eyes of workers too, and nothing counts its jobs any more."""
    function = deploy(store)
    [(spec, *_)] = submit(store, function)
    other = FunctionRef("nobody", 1)
    store.functions.retire(function.ref)
    store.functions.digests()
    assert store.functions.removed([function.ref, other]) == [other]
    store.jobs.cancel(spec.id)
    store.functions.digests()
    assert store.functions.removed([function.ref]) == [function.ref]
    assert store.server.redis.exists(keys.INFLIGHT, keys.QUEUED, keys.RETIRED) == 0


def test_a_worker_that_left_before_it_was_given_jobs_is_missing(store: Store) -> None:
    """So that its jobs come back at once and not when their lease runs out."""
    [(spec, *_)] = submit(store, deploy(store))
    assert store.workers.lead("scheduler", "token", 60)
    assert claim_group(store.queue, "token", "left", "g", 10**10, [spec.id])
    assert store.workers.missing() == ["left"]


def test_the_latest_versions_are_those_that_are_deployed(store: Store) -> None:
    """Of each function one; what was removed is not among them."""
    for name in ("b", "a", "a", "gone"):
        deploy(store, name)
    store.functions.retire(FunctionRef("gone"))
    assert store.functions.latest() == [FunctionRef("a", 2), FunctionRef("b", 1)]
