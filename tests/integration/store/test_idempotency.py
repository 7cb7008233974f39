"""Idempotency keys in the store, held against a dictionary."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import IdempotencyKeyReused, QueueFull
from contract.function import Function
from contract.job import IdempotencyClaim, JobId, Submission
from contract.store import Store
from contract.store.jobs import AlreadyAccepted
from tests.integration.store.builders import a_submission, deploy

KEYS = ("a" * 64, "b" * 64)
FINGERPRINTS = ("0" * 64, "1" * 64)
LIMIT = 3


class Send(NamedTuple):
    """A request under a key; `copies` of it come in one group."""

    key: str
    fingerprint: str
    copies: int


SENDS = st.builds(Send, st.sampled_from(KEYS), st.sampled_from(FINGERPRINTS), st.integers(1, 3))
# a number: that job (counted from the newest) is cancelled
HISTORIES = st.lists(SENDS | st.integers(0, 3) | st.just("forget"), max_size=12)


class Model:
    """What the keys should stand for."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[JobId, str]] = {}
        self.queued: list[JobId] = []
        self.ended: list[JobId] = []

    def expected(self, submission: Submission) -> tuple[type | None, JobId | None]:
        """The kind of refusal, and the job that the key stands for."""
        key, fingerprint = submission.claim[:64], submission.claim[64:]
        if key in self.held:
            job, of_request = self.held[key]
            same = of_request == fingerprint
            return (AlreadyAccepted, job) if same else (IdempotencyKeyReused, None)
        if len(self.queued) >= LIMIT:
            return QueueFull, None
        self.held[key] = submission.spec.id, fingerprint
        self.queued.append(submission.spec.id)
        return None, None


@pytest.mark.parametrize("redis_url", ["embedded"], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(HISTORIES)
def test_a_key_stands_for_the_first_accepted_job_until_its_record_goes(
    store: Store, history: list[Send | int | str]
) -> None:
    """Whatever is sent, together or apart, refused, settled or forgotten."""
    store.server.redis.flushall()
    function, model = deploy(store), Model()
    for event in history:
        if isinstance(event, Send):
            _send(store, function, model, event)
        elif event == "forget":
            _forget(store, model)
        elif isinstance(event, int) and event < len(model.queued):
            job = model.queued.pop(-1 - event)
            store.jobs.cancel(job)
            model.ended.append(job)
        for key in KEYS:
            job_and_request = model.held.get(key)
            for fingerprint in FINGERPRINTS:
                _look(store, IdempotencyClaim(key, fingerprint), job_and_request)
    conservation = store.telemetry.conservation()
    assert (len(model.queued), 0) == (conservation.queued, conservation.drift)


def _send(store: Store, function: Function, model: Model, event: Send) -> None:
    claim = IdempotencyClaim(event.key, event.fingerprint).text
    group = [a_submission(function)._replace(claim=claim) for _ in range(event.copies)]
    expected = [model.expected(submission) for submission in group]
    refusals = store.jobs.submit(group, LIMIT, LIMIT)
    assert expected == [
        (refusal and type(refusal), getattr(refusal, "job", None)) for refusal in refusals
    ]


def _forget(store: Store, model: Model) -> None:
    """The records of settled jobs expire, and their keys with them."""
    server = store.server.redis
    assert all(0 < server.ttl(f"fb:job:{job}") <= 60 for job in model.ended)
    for key, (job, _) in list(model.held.items()):
        if job in model.ended:
            assert server.pexpiretime(f"fb:idem:{key}") == server.pexpiretime(f"fb:job:{job}")
            server.delete(f"fb:idem:{key}", f"fb:job:{job}")
            del model.held[key]
    model.ended.clear()


def _look(store: Store, claim: IdempotencyClaim, held: tuple[JobId, str] | None) -> None:
    if held is None or held[1] == claim.fingerprint:
        assert store.jobs.accepted_as(claim) == (held and held[0])
    else:
        with pytest.raises(IdempotencyKeyReused):
            store.jobs.accepted_as(claim)


def test_a_submission_that_is_sent_again_is_not_its_own_duplicate(store: Store) -> None:
    """A retried script finds its own job, key and all."""
    claim = IdempotencyClaim(KEYS[0], FINGERPRINTS[0]).text
    submission = a_submission(deploy(store))._replace(claim=claim)
    assert store.jobs.submit([submission], LIMIT, LIMIT) == [None]
    assert store.jobs.submit([submission], LIMIT, LIMIT) == [None]
    assert store.telemetry.conservation().queued == 1
