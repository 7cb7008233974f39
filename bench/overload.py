"""Ten times more work than the device can do: what is refused, how soon, and what is still done.

The function takes tens of milliseconds of one core per row, however grouped, so the device is what
is full; the load comes from open-loop clients on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import requests
from _openloop import Client, Reply, quantile_ms
from _platform import Platform, running_platform
from _report import Row, finish

BODY = json.dumps({"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}).encode()
FUNCTION = Path(__file__).parent / "functions" / "steady.py"
TIMES_CAPACITY = 10
TIMEOUT_MS, PATIENT_MS = 3_000, 200_000
# of the capacity, is what the modest function is called at
MODEST = 0.2
# enough to keep the device busy, too few to wait for longer than the deadline
CLIENTS = 8
WAITING = 500
# what the scheduler has measured by then is what clients meet from then on
SETTLING_S = 3.0
# room for those who wait, and less than the flood brings before that
QUEUE_LIMIT = 600
REFUSAL_P99_MS = HEALTH_P99_MS = 50.0
GOODPUT = 0.8
END_S = 120.0


def invoke(platform: Platform, name: str) -> Client:
    """A client of one function."""
    return Client(f"{platform.url}/v1/functions/{name}/invoke", BODY)


def rate_of(replies: Sequence[Reply], from_s: float, until_s: float) -> float:
    """Successes per second of what was answered in this time."""
    ends = [r.sent_at_s + r.latency_s for r in replies if r.status == 200]
    return sum(from_s <= end < until_s for end in ends) / (until_s - from_s)


async def capacity(platform: Platform, seconds: float) -> float:
    """Successes per second of as many clients as keep the device busy."""
    client = invoke(platform, "flooding")
    await client.keep_sending(CLIENTS, seconds / 4)
    began_s = time.monotonic()
    await client.keep_sending(CLIENTS, seconds)
    client.close()
    return rate_of(client.replies, began_s, began_s + seconds)


async def flood(platform: Platform, per_second: float, seconds: float) -> list[Row]:
    """Ten times the capacity on one function, beside a modest one that is also called alone."""
    modest_rate = per_second * MODEST
    alone = invoke(platform, "modest")
    await alone.send_at(modest_rate, seconds)
    flooding, modest = invoke(platform, "flooding"), invoke(platform, "modest")
    began_s = time.monotonic()

    async def modest_later() -> None:
        await asyncio.sleep(SETTLING_S)
        await modest.send_at(modest_rate, seconds - SETTLING_S)

    await asyncio.gather(flooding.send_at(per_second * TIMES_CAPACITY, seconds), modest_later())
    replies = flooding.replies + modest.replies
    goodput = rate_of(replies, began_s + SETTLING_S, began_s + seconds)
    for client in (alone, flooding, modest):
        client.close()
    return [
        *_refusals(flooding.replies, seconds),
        Row("goodput over capacity", goodput / per_second, "x", GOODPUT),
        *_fairness(alone.replies, modest.replies),
    ]


def _refusals(replies: Sequence[Reply], seconds: float) -> list[Row]:
    refused = [reply for reply in replies if reply.status == 429]
    late = [reply for reply in replies if reply.status == 504]
    others = [reply for reply in replies if reply.status not in (200, 429, 504)]
    told_s = [reply.retry_after_s or 0 for reply in refused]
    too_long = sum(reply.code == "wait_too_long" for reply in refused)
    return [
        Row("flood: requests per second", len(replies) / seconds, "1/s"),
        Row("flood: refused", len(refused) / len(replies), ""),
        Row("flood: of these because the wait is too long", too_long / len(refused), ""),
        Row("flood: refusals, median", quantile_ms(refused, 0.5), "ms"),
        Row("flood: refusals, p99", quantile_ms(refused, 0.99), "ms", REFUSAL_P99_MS, False),
        Row("flood: least Retry-After", float(min(told_s)), "s", 1.0),
        Row("flood: median Retry-After", statistics.median(told_s), "s"),
        Row("flood: accepted and past their deadline", len(late) / len(replies), ""),
        Row("flood: other answers", float(len(others)), "", 0.0, False),
    ]


def _fairness(alone: Sequence[Reply], beside: Sequence[Reply]) -> list[Row]:
    without_ms, with_ms = (
        quantile_ms([r for r in replies if r.status == 200], 0.99) for replies in (alone, beside)
    )
    refused = sum(reply.status != 200 for reply in beside) / len(beside)
    return [
        Row("modest function alone: p99", without_ms, "ms"),
        Row("modest function beside the flood: p99", with_ms, "ms"),
        Row("modest function: p99 with the flood over without", with_ms / without_ms, "x"),
        Row("modest function beside the flood: not answered", refused, "", 0.01, False),
    ]


async def waiting_clients(platform: Platform, seconds: float) -> list[Row]:
    """/healthz while hundreds wait for results."""
    waiting, health = invoke(platform, "patient"), Client(f"{platform.url}/healthz")
    crowd = [asyncio.create_task(waiting.call()) for _ in range(WAITING)]
    await asyncio.sleep(1.0)  # until they are all there; only what is asked after that counts
    while len(health.replies) < 100 * seconds and len(waiting.replies) < WAITING / 6:
        await health.call()
        await asyncio.sleep(0.005)
    still_waiting = WAITING - len(waiting.replies)
    for task in crowd:
        # which closes its connection: what it waits for is cancelled
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    waiting.close()
    health.close()
    p99_ms = quantile_ms(health.replies, 0.99)
    return [
        Row("waiting clients, at least", float(still_waiting), "", WAITING * 0.8),
        Row("/healthz beside them: median", quantile_ms(health.replies, 0.5), "ms"),
        Row("/healthz beside them: p99", p99_ms, "ms", HEALTH_P99_MS, False),
    ]


def conservation(platform: Platform) -> list[Row]:
    """What became of every accepted job, once nothing is left to do."""
    give_up_at_s = time.monotonic() + END_S
    while True:
        stats = requests.get(platform.url + "/v1/stats", timeout=10).json()
        jobs, counters = stats["jobs"], stats["counters"]
        if not jobs["queued"] + jobs["running"]:
            break
        assert time.monotonic() < give_up_at_s, jobs
        time.sleep(0.1)  # another process: there is nothing to wait on but its answers
    settled = sum(
        jobs[state] for state in ("succeeded", "failed", "expired", "refused", "cancelled")
    )
    names = (
        "rejected:queue_full", "rejected:wait_too_long", "expired:queue", "expired:launch",
        "abandoned",
    )  # fmt: skip
    return [
        Row("jobs accepted", float(jobs["accepted"]), ""),
        Row("jobs accepted and not settled", float(jobs["accepted"] - settled), "", 0.0, False),
        Row("conservation drift", float(jobs["drift"]), "jobs", 0.0, False),
        *(Row(name, float(counters.get(name, 0)), "jobs") for name in names),
    ]


def measure(seconds: float) -> list[Row]:
    """Everything on one platform."""
    settings = {
        "FUSEBOX_COMPUTE_THREADS": "1",
        "FUSEBOX_FUNCTION_QUEUE_LIMIT": str(QUEUE_LIMIT),
    }
    with running_platform(**settings) as platform:
        for name in ("flooding", "modest"):
            platform.deploy(str(FUNCTION), "--name", name, "--timeout-ms", str(TIMEOUT_MS))
        platform.deploy(str(FUNCTION), "--name", "patient", "--timeout-ms", str(PATIENT_MS))
        platform.wait_ready()
        per_second = asyncio.run(capacity(platform, seconds / 2))
        return [
            Row("capacity", per_second, "1/s"),
            *asyncio.run(flood(platform, per_second, seconds)),
            *asyncio.run(waiting_clients(platform, seconds)),
            *conservation(platform),
        ]


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half of the time")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    return finish(measure(10.0 if options.quick else 20.0), "Overload", options.json)


if __name__ == "__main__":
    sys.exit(main())
