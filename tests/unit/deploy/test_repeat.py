"""What many calls say together."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from deploy.client import NEVER, Body, Client
from deploy.repeat import Call, Summary, quantile, repeat, summarize
from tests.unit.deploy.fake_gateway import ANSWER, TIMINGS, Asked, FakeGateway, problem

PATH = "/v1/functions/echo/invoke"
BODY = Body("application/json", b"{}")
latencies = st.lists(st.floats(0, 1e6), min_size=1).map(sorted)


@given(latencies, st.floats(0.01, 1.0))
def test_a_quantile_is_a_value_that_enough_values_do_not_exceed(
    ordered: list[float], share: float
) -> None:
    """And the least such value."""
    value = quantile(ordered, share)
    assert value is not None
    reached = sum(one <= value for one in ordered)
    below = sum(one < value for one in ordered)
    assert reached >= share * len(ordered) > below or below == 0


def test_a_summary_counts_failures_apart() -> None:
    """Latencies, groups and cold starts are of the calls that succeeded."""
    calls = [Call(10.0, 2, False), Call(30.0, 4, True), Call(1.0, error="queue_full")]
    assert summarize(calls, 2.0) == Summary(
        requests=3,
        failed=1,
        seconds=2.0,
        throughput_per_s=1.0,
        p50_ms=10.0,
        p95_ms=30.0,
        p99_ms=30.0,
        mean_group_jobs=3.0,
        cold_share=0.5,
        errors={"queue_full": 1},
    )


def test_every_call_is_made_once(gateway: FakeGateway) -> None:
    """By as many connections as asked for, and each is told of."""
    gateway.on("POST", PATH, (200, ANSWER))
    told: list[None] = []
    summary = repeat(lambda: Client(gateway.url), "echo", BODY, 23, 4, lambda: told.append(None))
    assert (len(gateway.asked), len(told), summary.requests, summary.failed) == (23, 23, 23, 0)
    assert summary.mean_group_jobs == ANSWER["group"]["jobs"]


def test_cold_starts_are_calls_that_swapped(gateway: FakeGateway) -> None:
    """One of the ten did."""
    cold = ANSWER | {"timings_ms": TIMINGS | {"swap": 12.0}}
    gateway.on("POST", PATH, lambda _: (200, cold if len(gateway.asked) == 1 else ANSWER))
    summary = repeat(lambda: Client(gateway.url), "echo", BODY, 10, 1, lambda: None)
    assert summary.cold_share == 0.1


def test_a_call_that_fails_does_not_stop_the_others(gateway: FakeGateway) -> None:
    """It is counted by its code."""

    def reply(_: Asked) -> tuple[int, object]:
        every_third = len(gateway.asked) % 3 == 0
        return problem(429, "queue_full", "full") if every_third else (200, ANSWER)

    gateway.on("POST", PATH, reply)
    once = partial(Client, gateway.url, retries=NEVER)
    summary = repeat(once, "echo", BODY, 9, 1, lambda: None)
    assert (summary.failed, summary.errors) == (3, {"queue_full": 3})
