"""What events cost: posted ones in batches, decoding them, and cron triggers that only wait.

`sustained` posts to a whole platform at a steady rate, whose worker runs all of the jobs meanwhile,
and looks for every one of them afterwards. For the rest the gateway's application runs in this
process over an embedded store, and no worker takes the jobs: shares and rates are of processor
time, of gateway and store together, so that other work on the machine does not count; the rate by
the clock stands beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import requests
from _platform import running_platform
from _report import Row, finish
from _store import empty_store
from cloudevents.http import from_http

from contract.settings import Settings
from contract.store import Store
from gateway.app import create_app, gateway_of
from gateway.context import Gateway
from gateway.triggers.cloudevents import BATCHED, STRUCTURED, decode
from gateway.triggers.definition import read_definition
from gateway.triggers.service import run

BATCH = 500
OTHERS = 100
# ten times a second: a little more than the bar, which an answer that comes late must not miss
STEADY = 105
PAID = {"filters": [{"exact": {"type": "paid"}}]}
DRAIN_S = 120.0


class Spent(NamedTuple):
    """Seconds: by the clock, and of processors in this process and in the store."""

    clock_s: float
    own_s: float
    store_s: float

    @property
    def processor_s(self) -> float:
        """Of both."""
        return self.own_s + self.store_s

    def since(self, before: Spent) -> Spent:
        """What was spent after `before`."""
        return Spent(*(now - then for now, then in zip(self, before, strict=True)))


def spent(store: Store) -> Spent:
    """Until now."""
    cpu: Any = store.server.redis.info("cpu")
    of_store_s = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
    return Spent(time.monotonic(), time.process_time(), of_store_s)


def make(store: Store, name: str, **wanted: Any) -> None:
    """Make a trigger."""
    record = {"name": name, "function": "echo"} | wanted
    store.triggers.put(read_definition(json.dumps(record).encode(), []))


def event(identity: str) -> dict[str, Any]:
    """A CloudEvent with one row."""
    data = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
    about = {"specversion": "1.0", "id": identity, "source": "/s", "type": "paid"}
    return about | {"datacontenttype": "application/json", "data": data}


def posted(batches: int) -> list[Row]:
    """Batches of events, each of which one trigger of many is for."""
    with empty_store() as store:
        unbounded = Settings(queue_limit=10**6, function_queue_limit=10**6)
        app = create_app(unbounded, store)
        mapping = "{inputs: {x: data.inputs.x}}"
        make(store, "paid", event={"filters": [{"exact": {"type": "paid"}}]}, input=mapping)
        for number in range(OTHERS):
            other = [{"exact": {"type": f"other{number}"}}]
            make(store, f"other{number}", event={"filters": other})
        bodies = [json.dumps([event(f"{k}-{i}") for i in range(BATCH)]) for k in range(batches + 1)]
        client = app.test_client()

        def post(body: str) -> None:
            answer = client.post("/v1/events", data=body, content_type=BATCHED)
            assert answer.status_code == 202, answer.text

        # what is read once
        post(bodies[0])
        before = spent(store)
        for body in bodies[1:]:
            post(body)
        took = spent(store).since(before)
        gateway_of(app).replies.close()
    count = batches * BATCH
    return [
        Row("events posted, per second of one processor", count / took.processor_s, "/s", 1_000),
        Row("events posted, per second by the clock", count / took.clock_s, "/s"),
    ]


def sustained(seconds: int) -> list[Row]:
    """A batch every tenth of a second; every event is one job of one trigger."""
    count = seconds * 10
    bodies = [json.dumps([event(f"{k}-{i}") for i in range(STEADY)]) for k in range(count)]
    limits = {"FUSEBOX_QUEUE_LIMIT": "100000", "FUSEBOX_FUNCTION_QUEUE_LIMIT": "100000"}
    with running_platform(**limits) as platform, requests.Session() as session:
        platform.deploy(str(Path(__file__).parent / "functions" / "echo.py"))
        platform.wait_ready()
        wanted = {"name": "paid", "function": "echo", "input": "{inputs: {x: data.inputs.x}}"}
        made = session.post(f"{platform.url}/v1/triggers", json=wanted | {"event": PAID})
        assert made.status_code == 201, made.text
        before = _jobs(session, platform.url)
        took_s, refused = [], 0
        began_s = time.monotonic()
        for number, body in enumerate(bodies):
            time.sleep(max(0.0, began_s + number / 10 - time.monotonic()))  # the rate is the point
            sent_s = time.monotonic()
            headers = {"Content-Type": BATCHED}
            answer = session.post(f"{platform.url}/v1/events", data=body, headers=headers)
            took_s.append(time.monotonic() - sent_s)
            refused += answer.status_code != 202
        posted_s = time.monotonic() - began_s
        after = _settled(session, platform.url, before["accepted"])
        drained_s = time.monotonic() - began_s - posted_s
    events = count * STEADY
    succeeded = after["succeeded"] - before["succeeded"]
    took_ms = sorted(1e3 * one for one in took_s)
    case = f"{seconds} s on a whole platform"
    return [
        Row(
            f"{case}: events accepted per second", (count - refused) * STEADY / posted_s, "/s", 1e3
        ),
        Row(f"{case}: batches refused", refused, "", 0, False),
        Row(f"{case}: events whose job did not succeed", events - succeeded, "", 0, False),
        Row(f"{case}: accepted and nowhere", after["drift"], "", 0, False),
        Row(f"{case}: answers to batches of {STEADY}, p99", took_ms[int(0.99 * count)], "ms"),
        Row(f"{case}: from the last answer to the last job's end", drained_s, "s"),
    ]


def _jobs(session: requests.Session, url: str) -> dict[str, int]:
    found: dict[str, int] = session.get(f"{url}/v1/stats").json()["jobs"]
    return {"succeeded": 0, **found}


def _settled(session: requests.Session, url: str, before: int) -> dict[str, int]:
    """Where the jobs are when none waits or runs any more."""
    give_up_at_s = time.monotonic() + DRAIN_S
    while time.monotonic() < give_up_at_s:
        jobs = _jobs(session, url)
        if jobs["accepted"] > before and not jobs["queued"] and not jobs["running"]:
            return jobs
        time.sleep(0.1)  # another process: there is nothing to wait on but its answers
    raise AssertionError(f"jobs do not end: {jobs}")


def decoded(count: int) -> list[Row]:
    """One structured event, by our module and by the library."""
    body = json.dumps(event("1")).encode()
    headers = {"content-type": STRUCTURED}

    def per_event_us(read: Any) -> float:
        began_s = time.process_time()
        for _ in range(count):
            read()
        return 1e6 * (time.process_time() - began_s) / count

    ours_us = per_event_us(lambda: decode({"CONTENT_TYPE": STRUCTURED}, body))
    library_us = per_event_us(lambda: from_http(headers, body))
    return [
        Row("decode an event", ours_us, "us"),
        Row("decode an event, cloudevents", library_us, "us"),
        Row("cloudevents / ours", library_us / ours_us, "x", 1.0),
    ]


def idle(triggers: int, watched_s: float) -> list[Row]:
    """The share of a processor of cron triggers whose tick is far away."""
    with empty_store() as store:
        for number in range(triggers):
            schedule = f"{number % 60} {number % 24} {1 + number % 28} 1 *"
            make(store, f"t{number}", cron={"schedule": schedule})
        stop = threading.Event()
        gateway = Gateway.wire(Settings(), store)
        service = threading.Thread(target=run, args=(gateway, stop))
        began_s = time.process_time()
        service.start()
        _wait_idle()
        loaded_s = time.process_time() - began_s
        before = spent(store)
        time.sleep(watched_s)  # nothing is to happen: that is what is measured
        took = spent(store).since(before)
        stop.set()
        service.join()
    percent = 100 * took.own_s / took.clock_s
    name = f"{triggers} idle cron triggers"
    return [
        Row(f"{name}, of one processor", percent, "%", 1.0, False),
        Row(f"{name}, to begin with", loaded_s, "s"),
    ]


def _wait_idle() -> None:
    """Until the service has read what there is, and uses next to nothing."""
    last_s = -1.0
    while (now_s := time.process_time()) - last_s > 0.02:
        last_s = now_s
        time.sleep(1.0)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    is_quick = options.quick
    rows = sustained(2 if is_quick else 60)
    rows += posted(4 if is_quick else 40)
    rows += decoded(500 if is_quick else 20_000)
    rows += idle(1_000 if is_quick else 10_000, 5.0 if is_quick else 60.0)
    return finish(rows, "Events", options.json)


if __name__ == "__main__":
    sys.exit(main())
