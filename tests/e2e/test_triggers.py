"""Triggers on a real platform: ticks, files, entries and events become jobs that run."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from math import floor
from pathlib import Path
from typing import Any

import pytest
import requests
from cloudevents.conversion import to_binary
from cloudevents.http import CloudEvent

from bench._platform import Platform
from contract import keys
from contract.store import Store, open_store
from gateway.triggers.crons import tick_event
from gateway.triggers.firing import claim_of
from tests.e2e.faults.waiting import eventually

INPUT = {"inputs": {"input": [[1.0, 2.0, 3.0, 4.0]]}}
ENTRIES = 40


@pytest.fixture
def store(platform: Platform) -> Iterator[Store]:
    """A look into the platform's store."""
    opened = open_store(f"unix://{platform.data / 'store.sock'}")
    yield opened
    opened.close()


def fusebox(platform: Platform, *words: str) -> Any:
    """What a verb of `fusebox triggers` answers."""
    done = platform.fusebox("triggers", *words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def shown(platform: Platform, name: str) -> Any:
    """A trigger as it is shown."""
    return requests.get(f"{platform.url}/v1/triggers/{name}", timeout=30).json()


def outputs(platform: Platform, job: str) -> Any:
    """The outputs of a job, when it has them."""
    answer = requests.get(f"{platform.url}/v1/jobs/{job}?wait=30", timeout=60).json()
    assert answer["status"] == "succeeded", answer
    return answer["outputs"]


def leader(store: Store) -> int:
    """Pid of the events process that leads."""
    token: Any = eventually(lambda: store.server.redis.get(keys.leader("events")), "a leader")
    return int(token.partition(b"-")[0])


def test_a_cron_trigger_made_on_the_command_line_runs_its_function(platform: Platform) -> None:
    """Made, tried out, seen, removed."""
    cron = ("--cron", "* * * * * *", "--data", json.dumps(INPUT))
    made = fusebox(platform, "create", "tick", "linear", *cron)
    assert made["state"] == "active"
    assert fusebox(platform, "test", "tick")["payload"] == INPUT
    fired = eventually(lambda: (r := shown(platform, "tick"))["fired"] >= 2 and r, "two ticks")
    assert len(outputs(platform, fired["last_job"])) == 1
    assert [each["name"] for each in fusebox(platform, "list")["triggers"]] == ["tick"]
    assert fusebox(platform, "rm", "tick")["name"] == "tick"


def test_a_file_that_is_dropped_into_a_folder_becomes_a_job(platform: Platform) -> None:
    """Mapped by an expression."""
    folder = Path(platform.environ["FUSEBOX_WATCH"])
    options = ("--watch", str(folder), "--settle-s", "0.2", "--every-s", "0.1")
    mapping = ("--input", "{inputs: {input: data.rows}}")
    fusebox(platform, "create", "inbox", "linear", *options, *mapping)
    (folder / "a.json.part").write_text('{"rows": [[1, 2, 3, 4]]}')
    (folder / "a.json.part").rename(folder / "a.json")
    done = eventually(lambda: (r := shown(platform, "inbox"))["fired"] and r, "the file")
    assert len(outputs(platform, done["last_job"])) == 1
    assert requests.delete(f"{platform.url}/v1/triggers/inbox", timeout=30).ok


def test_an_event_that_is_posted_becomes_a_job(platform: Platform) -> None:
    """As the CloudEvents library sends it; the same event again is the same job."""
    wanted = {"name": "paid", "function": "linear",
              "event": {"filters": [{"prefix": {"type": "shop."}}]}}  # fmt: skip
    assert requests.post(f"{platform.url}/v1/triggers", json=wanted, timeout=30).ok
    about = {"type": "shop.paid", "source": "/shop", "datacontenttype": "application/json"}
    headers, body = to_binary(CloudEvent(about, INPUT))
    answers = [
        requests.post(f"{platform.url}/v1/events", data=body, headers=headers, timeout=30)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    [first], [second] = (answer.json()["jobs"] for answer in answers)
    assert first["job"] == second["job"]
    assert len(outputs(platform, first["job"])) == 1
    assert requests.delete(f"{platform.url}/v1/triggers/paid", timeout=30).ok


def test_when_the_leader_is_killed_another_takes_over_and_nothing_is_lost(
    platform: Platform, store: Store
) -> None:
    """Every entry of a stream and every second has its job."""
    fusebox(platform, "create", "entries", "linear", "--stream", "orders", "--batch", "5")
    cron = {"schedule": "* * * * * *", "missed": "all", "data": INPUT}
    wanted = {"name": "each", "function": "linear", "cron": cron}
    assert requests.post(f"{platform.url}/v1/triggers", json=wanted, timeout=30).ok
    eventually(lambda: shown(platform, "each")["fired"], "a tick")
    entry: Any = {"data": json.dumps(INPUT)}
    for number in range(ENTRIES):
        store.server.redis.xadd("orders", entry)
        if number == ENTRIES // 2:
            killed = leader(store)
            os.kill(killed, signal.SIGKILL)
    eventually(lambda: leader(store) != killed, "another leader")

    def is_done() -> bool:
        groups: Any = store.server.redis.xinfo_groups("orders")
        return bool(groups[0]["pending"] == 0 and groups[0]["lag"] == 0)

    eventually(is_done, "every entry to be acknowledged")
    taken_over_s = time.time()
    each = eventually(
        lambda: (k := store.triggers.get("each")).progress.at_s > taken_over_s and k, "a tick"
    )
    ticks = range(floor(each.trigger.created_at_s) + 1, floor(each.progress.at_s) + 1)
    claims = [claim_of("each", tick_event(each.trigger, float(tick))) for tick in ticks]
    assert [tick for tick, claim in zip(ticks, claims, strict=True)
            if store.jobs.accepted_as(claim) is None] == []  # fmt: skip
    # a job that was made just before the process died is found again, not made again
    names = ("trigger_calls:stream", "trigger_duplicates:stream")
    made = sum(int(store.telemetry.counters().get(name, 0)) for name in names)
    assert made >= ENTRIES
    for name in ("entries", "each"):
        fusebox(platform, "rm", name)
