"""Conversations, without a gateway and without a clock: both are made up here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import FuseboxError, QueueFull, StoreUnavailable
from deploy.client import NEVER, Body, Retries, Unreachable, WaitTimeout, routes
from deploy.client.request import Lost, Reply, Request
from deploy.client.talk import MOST_PAUSE_S, Heard, Pause, Send, Steps, Talk
from tests.unit.deploy.fake_gateway import JOB, job

T = TypeVar("T")
URL = "http://gateway"
BODY = Body("application/json", b"{}")
JSON = {"content-type": "application/json"}
PROBLEM = {"content-type": "application/problem+json"}
RULE = Retries(attempts=5, first_s=0.2, most_s=5.0, total_s=60.0)
# what may happen to a request on its way
FAULTS = ["none", "unsent", "lost before", "lost after", "late", "429", "503", "502"]


def reply(status: int, record: dict[str, Any], **headers: str) -> Reply:
    """An answer with a record."""
    return Reply(status, "", JSON | headers, json.dumps(record).encode())


def refusal(status: int, code: str, **members: Any) -> Reply:
    """A problem."""
    body = {"code": code, "detail": "d", "status": status} | members
    return Reply(status, "", PROBLEM, json.dumps(body).encode())


@dataclass
class World:
    """A gateway that has jobs by idempotency key, ways to it that fail, and time."""

    answer: Callable[[Request], Reply | Lost]
    now_s: float = 0.0
    takes_s: float = 0.01
    sent: list[tuple[float, Request]] = field(default_factory=list)
    paused_s: list[float] = field(default_factory=list)

    def run(self, steps: Steps[T]) -> T:
        """Take every step of a conversation."""
        try:
            step = next(steps)
            while True:
                step = steps.send(self._take(step))
        except StopIteration as end:
            value: T = end.value
            return value

    def _take(self, step: Send | Pause) -> Heard:
        match step:
            case Pause(seconds):
                assert seconds >= 0
                self.paused_s.append(seconds)
                self.now_s += seconds
                return Heard(self.now_s)
            case Send(request):
                self.sent.append((self.now_s, request))
                self.now_s += self.takes_s
                return Heard(self.now_s, self.answer(request))


@given(
    st.lists(st.sampled_from(FAULTS), max_size=8),
    st.booleans(),
    st.floats(0, 1),
    st.sampled_from([NEVER, RULE, Retries(attempts=3, total_s=1.0)]),
)
def test_however_often_it_is_sent_a_call_is_one_job(
    faults: list[str], has_key: bool, draw: float, rule: Retries
) -> None:
    """It has the job's answer or an error; and it is sent no more often than is good."""
    left = list(faults)
    jobs: list[str | None] = []
    cause = OSError("gone")

    def answer(request: Request) -> Reply | Lost:
        fault = left.pop(0) if left else "none"
        key = request.headers.get("Idempotency-Key")
        if fault in ("none", "lost after", "late") and (key is None or key not in jobs):
            jobs.append(key)
        return {
            "none": reply(200, {"job": JOB}),
            "unsent": Lost.unsent(URL, cause),
            "lost before": Lost.broken(URL, cause),
            "lost after": Lost.broken(URL, cause),
            "late": Lost.late(URL, cause),
            "429": refusal(429, "queue_full", retry_after_ms=1500),
            "503": refusal(503, "store_unavailable", retry_after_ms=1000),
            "502": Reply(502, "", {}, b""),
        }[fault]

    world = World(answer)
    request = routes.call("echo", BODY, idempotency_key="k" if has_key else None)
    talk = Talk(URL, rule, lambda: draw)
    try:
        assert world.run(talk.ask(request, 0.0)).record == {"job": JOB}
    except FuseboxError:
        assert faults
    assert len(jobs) <= 1
    assert 1 <= len(world.sent) <= rule.attempts
    assert world.now_s <= rule.total_s + world.takes_s * rule.attempts + 0.01
    # what came in between asked for a pause
    gaps = [then - now for (now, _), (then, _) in zip(world.sent, world.sent[1:], strict=False)]
    for fault, gap_s in zip(faults, gaps, strict=False):
        assert gap_s >= {"429": 1.5, "503": 1.0}.get(fault, 0.0)


def test_what_may_have_been_heard_is_not_repeated() -> None:
    """A removal, an upload, a call without a key; but a refused connection did nothing."""
    lost = World(lambda _: Lost.broken(URL, OSError("gone")))
    with pytest.raises(Unreachable):
        lost.run(Talk(URL, RULE, lambda: 0.5).ask(routes.remove("echo"), 0.0))
    assert len(lost.sent) == 1
    unheard = World(lambda _: Lost.unsent(URL, OSError("refused")))
    with pytest.raises(Unreachable):
        unheard.run(Talk(URL, RULE, lambda: 0.5).ask(routes.remove("echo"), 0.0))
    assert len(unheard.sent) == RULE.attempts


def test_the_error_that_is_raised_is_the_last_one() -> None:
    """With its type."""
    answers = iter([refusal(429, "queue_full"), refusal(503, "store_unavailable")] * 9)
    world = World(lambda _: next(answers))
    talk = Talk(URL, Retries(attempts=2), lambda: 0.0)
    request = routes.call("echo", BODY, idempotency_key="k")
    with pytest.raises(StoreUnavailable):
        world.run(talk.ask(request, 0.0))


def test_a_retry_after_beyond_the_patience_is_not_waited_for() -> None:
    """The caller learns at once that it is in vain."""
    world = World(lambda _: refusal(429, "queue_full", retry_after_ms=30_000))
    with pytest.raises(QueueFull):
        world.run(Talk(URL, RULE, lambda: 0.5).settle(routes.call("e", BODY), 0.0, 10.0))
    assert (world.paused_s, len(world.sent)) == ([], 1)


def test_a_call_that_goes_on_is_polled_until_it_has_settled() -> None:
    """In the type that the call asked for."""
    states = iter([(202, job("queued")), (200, job("running")), (200, job("succeeded"))])
    world = World(lambda _: reply(*next(states)), takes_s=20.0)
    request = routes.call("echo", BODY, "application/msgpack")
    assert world.run(Talk(URL, RULE, lambda: 0.5).settle(request, 0.0)) == job("succeeded")
    assert [sent.target for _, sent in world.sent] == [
        "/v1/functions/echo/invoke",
        f"/v1/jobs/{JOB}?wait=30",
        f"/v1/jobs/{JOB}?wait=30",
    ]
    assert {sent.fields["Accept"] for _, sent in world.sent} == {"application/msgpack"}
    assert world.paused_s == []


def test_polls_that_are_answered_at_once_are_spaced() -> None:
    """A gateway with too many waiters, or one that stops, answers so."""
    states = iter(["running"] * 40 + ["succeeded"])
    world = World(lambda _: reply(200, job(next(states))), takes_s=0.001)
    world.run(Talk(URL, RULE, lambda: 0.5).wait(JOB, "application/json", 0.0))
    assert world.paused_s[:5] == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert set(world.paused_s[5:]) == {MOST_PAUSE_S}


@given(st.floats(0, 100), st.floats(0.001, 40))
def test_a_wait_ends_when_its_time_is_over(timeout_s: float, takes_s: float) -> None:
    """And says which job goes on; no poll asks for more than is left."""
    world = World(lambda _: reply(200, job("running")), takes_s=takes_s)
    with pytest.raises(WaitTimeout, match=f"job {JOB} is still running") as caught:
        world.run(Talk(URL, RULE, lambda: 0.5).wait(JOB, "application/json", 0.0, timeout_s))
    assert caught.value.extensions["job_id"] == JOB
    assert timeout_s <= world.now_s + 1e-6 <= timeout_s + 2 * takes_s + 1e-3
    for at_s, sent in world.sent:
        assert sent.wait_s is not None
        assert sent.wait_s <= max(0.0, timeout_s - at_s) + 1e-6
        assert sent.patience_s <= max(0.0, timeout_s - at_s) + 5.001


def test_a_call_with_a_timeout_says_so() -> None:
    """The gateway answers 202 when it is over, and the job is not lost."""
    world = World(lambda _: reply(202, job("queued")), takes_s=3.0)
    request = routes.call("echo", BODY)
    with pytest.raises(WaitTimeout):
        world.run(Talk(URL, RULE, lambda: 0.5).settle(request, 0.0, 3.0))
    (_, first), (_, second) = world.sent
    assert (first.fields["Prefer"], second.target) == ("wait=3", f"/v1/jobs/{JOB}?wait=0")
