"""What happens when a job ends, on a platform of real processes."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from standardwebhooks.webhooks import Webhook

from bench._platform import Platform
from contract import keys
from contract.settings import Settings
from contract.store import Store, open_store
from tests.integration.delivery.builders import Receiver

ROW = json.dumps({"inputs": {"input": [[1.0, 2.0, 3.0, 4.0]]}})
PATIENCE_S = 30.0
Record = dict[str, Any]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Somebody who is told."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def store(platform: Platform) -> Iterator[Store]:
    """The platform's store."""
    store = open_store(Settings(data=platform.data).redis_url)
    yield store
    store.close()


def run(platform: Platform, *words: str) -> Record:
    """What a verb prints."""
    done = platform.fusebox(*words, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    record: Record = json.loads(done.stdout)
    return record


def get(platform: Platform, path: str) -> Record:
    """What a route answers."""
    answer = requests.get(platform.url + path, timeout=2 * PATIENCE_S)
    assert answer.status_code == 200, answer.text
    record: Record = answer.json()
    return record


def delivered(platform: Platform, job: str) -> Record:
    """The delivery of a job once it is over."""
    give_up_at_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at_s:
        log = get(platform, f"/v1/jobs/{job}").get("deliveries", [])
        if log and log[0]["state"] != "waiting":
            found: Record = log[0]
            return found
        time.sleep(0.05)  # a delivery log has nothing to wait on
    pytest.fail(f"job {job} was not told of: {platform.tail()}")


def test_a_webhook_is_told_and_can_verify_it(platform: Platform, receiver: Receiver) -> None:
    """From the command line to the receiver, by the secret that the command line shows."""
    words = ("--async", "--data", ROW, "--on-success", receiver.url)
    job = run(platform, "invoke", "linear", *words)["job"]
    assert delivered(platform, job)["state"] == "delivered"
    [secret] = run(platform, "webhooks", "secret")["secrets"]
    [request] = receiver.requests
    event = Webhook(secret).verify(request.body, request.headers)
    assert (event["type"], event["subject"]) == ("dev.fusebox.job.succeeded", job)
    assert "delivered after 1 attempt" in platform.fusebox("jobs", "get", job).stdout


def test_a_retry_survives_the_process_that_would_have_made_it(
    platform: Platform, receiver: Receiver, store: Store
) -> None:
    """kill -9 of the leader between two attempts: the standby makes the second."""
    receiver.answers = [(503, {"Retry-After": "1"}), (204, {})]
    words = ("--async", "--data", ROW, "--on-success", receiver.url)
    job = run(platform, "invoke", "linear", *words)["job"]
    give_up_at_s = time.monotonic() + PATIENCE_S
    while not any(delivery.attempts for delivery in store.deliveries.of(job)):
        assert time.monotonic() < give_up_at_s, platform.tail()
        time.sleep(0.01)  # as above
    leader = store.server.redis.get(keys.leader("events"))
    assert isinstance(leader, bytes)
    os.kill(int(leader.partition(b"-")[0]), signal.SIGKILL)
    delivery = delivered(platform, job)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 2)
    assert store.server.redis.get(keys.leader("events")) != leader


def test_a_job_that_failed_while_nobody_waited_is_run_again(platform: Platform) -> None:
    """It is listed with its reason; the new job knows where it comes from."""
    data = json.dumps({"do": "raise"})
    job = run(platform, "invoke", "hooked", "--async", "--data", data)["job"]
    assert get(platform, f"/v1/jobs/{job}?wait={PATIENCE_S:g}")["status"] == "failed"
    give_up_at_s = time.monotonic() + PATIENCE_S
    while not any(each["id"] == job for each in get(platform, "/v1/dead-letters")["dead_letters"]):
        assert time.monotonic() < give_up_at_s, platform.tail()
        time.sleep(0.05)  # as above
    shown = run(platform, "dlq", "show", job)
    # on a loaded machine a handler may be late before it fails
    assert shown["reason"] == shown["error"]["code"]
    assert shown["reason"] in ("handler_failed", "handler_timeout")
    assert base64.b64decode(shown["payload"]) == data.encode()
    again = run(platform, "dlq", "redrive", job)
    assert again["id"] == job
    settled = get(platform, f"/v1/jobs/{again['job']}?wait={PATIENCE_S:g}")
    assert settled["status"] == "failed"
    assert platform.fusebox("dlq", "show", job).returncode == 3
    assert run(platform, "dlq", "purge", "--all")["purged"] >= 0
