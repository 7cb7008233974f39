"""One call through every process: its events, its trace, and the alias it was called by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from httpx_sse import connect_sse

from bench._platform import Platform, running_platform
from contract.job import TIMINGS
from tests.integration.gateway.test_tracing import Collector, _attributes, collecting

PAGED = Path(__file__).parent / "functions" / "paged.py"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced(NamedTuple):
    """A platform and who takes its spans."""

    platform: Platform
    collector: Collector


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    """A platform with one function, and an alias of its version."""
    with collecting() as (collector, endpoint):
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with running_platform(FUSEBOX_COMPUTE_THREADS="1", FUSEBOX_GATEWAYS="1", **settings) as up:
            up.deploy(str(PAGED), "--name", "paged", "--max-batch", "2")
            up.wait_ready()
            done = up.fusebox("alias", "paged", "prod=1")
            assert done.returncode == 0, done.stderr
            yield Traced(up, collector)


def test_a_call_is_followed_and_traced_through_every_process(traced: Traced) -> None:
    """Progress by one worker, spans by gateway and worker, all of one job."""
    url = traced.platform.url
    with httpx.Client(timeout=60) as client:
        accepted = client.post(
            f"{url}/v1/functions/paged@prod/invoke",
            json={"numbers": [1, 2, 3]},
            headers={"Prefer": "respond-async", "traceparent": f"00-{TRACE}-{SPAN}-01"},
        )
        job = accepted.json()["job"]
        with connect_sse(client, "GET", f"{url}/v1/jobs/{job}/events") as source:
            events = [(event.event, json.loads(event.data)) for event in source.iter_sse()]
    assert [name for name, _ in events] == ["queued", "started", *["progress"] * 3, "done"]
    assert [data["data"] for name, data in events if name == "progress"] == [
        {"done": 1},
        {"done": 2},
        {"done": 3},
    ]
    record = events[-1][1]
    assert (record["result"], record["alias"], record["version"]) == ({"total": 12.0}, "prod", 1)
    _check_spans(traced.collector, job, record["timings_ms"])


def _check_spans(collector: Collector, job: str, timings_ms: dict[str, float]) -> None:
    """The caller's span, the gateway's below it, the job's below that, its stages below that."""
    stages = {name for name in TIMINGS if name != "total" and timings_ms[name]}
    spans = [
        (service, span)
        for service, span in collector.wait_for(
            lambda found: (
                any(span.name == "job paged" for _, span in found)
                and any(
                    service == "fusebox-gateway" and "invoke" in span.name
                    for service, span in found
                )
            )
        )
        if span.trace_id.hex() == TRACE
    ]
    [(_, request)] = [one for one in spans if one[0] == "fusebox-gateway"]
    assert request.parent_span_id.hex() == SPAN
    [(service, its)] = [one for one in spans if one[1].name == "job paged"]
    assert (service, its.parent_span_id) == ("fusebox-worker", request.span_id)
    said = _attributes(its)
    assert (said["fusebox.job"], said["fusebox.alias"], said["fusebox.version"]) == (job, "prod", 1)
    assert [event.name for event in its.events] == ["sent to worker"]
    below = {span.name: span for _, span in spans if span.parent_span_id == its.span_id}
    assert set(below) == stages
    for name, span in below.items():
        took_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert took_ms == pytest.approx(timings_ms[name], abs=0.01)


@pytest.mark.long
def test_a_job_is_followed_on_the_command_line(traced: Traced) -> None:
    """To its end, and with its exit status; a rollback needs something to go back to."""
    platform = traced.platform
    submitted = platform.fusebox(
        "invoke", "paged@prod", "--data", '{"numbers": [1, 2, 3]}', "--async", "--json"
    )
    job = json.loads(submitted.stdout)["job"]
    followed = platform.fusebox("jobs", "follow", job, "--json")
    assert followed.returncode == 0, followed.stderr
    events = [json.loads(line) for line in followed.stdout.splitlines()]
    assert [event["event"] for event in events][-1] == "done"
    assert events[-1]["data"]["result"] == {"total": 12.0}
    assert platform.fusebox("rollback", "paged").returncode == 2
    assert platform.fusebox("rm", "paged@1").returncode == 1
