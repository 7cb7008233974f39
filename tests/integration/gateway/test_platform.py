"""Health, counters, metrics and pages over a real store, held against the OpenAPI description."""

from __future__ import annotations

import re
from dataclasses import replace
from math import log
from typing import Any

import msgpack
import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from contract.store import Store
from contract.store.scheduling import Decisions, SchedulingNow
from contract.store.telemetry import PredictionError
from contract.utility import Served
from gateway.pages import in_bytes, in_ms
from tests.integration.gateway.builders import (
    FakeWorker,
    artifact,
    digest_header,
    pack,
    publish,
    report,
)
from tests.unit.gateway.manifests import MANIFEST, WITH_HOOKS

BODY = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
INVOKE = "/v1/functions/echo/invoke"
WITH_SLO = replace(MANIFEST, slo_ms=200.0)
# in ten seconds 20 answers of 100 ms each, 5 of them late
SCHEDULING = SchedulingNow(
    Decisions("laxity", 100, 40, 0.25, [60, 40, *[0] * 12], 0.000125, 0.003),
    {"echo": Served(10.0, 20, 5, 2.0)},
)


def test_readiness_names_what_is_missing(client: FlaskClient, store: Store) -> None:
    """200 once a deployed function could be answered."""
    assert client.get("/healthz").json == {"status": "ok"}

    def missing() -> Any:
        answer = client.get("/readyz")
        assert (
            answer.status_code,
            answer.json["code"],
            answer.headers["Retry-After"],
        ) == (503, "unavailable", "1")
        return answer.json["missing"]

    assert missing() == ["scheduler", "worker", "function"]
    store.workers.report(report(is_draining=True), 60, is_news=False)
    store.workers.lead("scheduler", "token", 60)
    assert missing() == ["worker", "function"]
    publish(store)
    store.workers.report(report(), 60, is_news=False)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"status": "ready"})


def test_workers_are_shown_as_they_report(client: FlaskClient, store: Store) -> None:
    """With their budget, their residents and their cache."""
    assert client.get("/v1/workers").json == {"workers": []}
    store.workers.report(report(), 60, is_news=False)
    (worker,) = client.get("/v1/workers").json["workers"]
    assert worker["functions"] == {"echo@1": 16}
    cache = {"entries": 1, "bytes": 10, "hits": 5, "misses": 2, "evictions": 1}
    assert worker["dag_cache"] == cache
    assert tuple(
        worker[key] for key in ("budget_bytes", "resident_bytes", "loads", "evictions")
    ) == (150_000_000, 16, 3, 2)


def test_stats_count_what_was_called(client: FlaskClient, store: Store, worker: FakeWorker) -> None:
    """Per function and in all, with the latency histogram for clients that take differences."""
    publish(store)
    for _ in range(3):
        assert client.post(INVOKE, json=BODY).status_code == 200
    stats = client.get("/v1/stats").json
    (echo,) = stats["functions"]
    assert (
        echo["jobs"]["succeeded"],
        echo["rows"],
        echo["queued"],
        echo["tier"],
    ) == (3, 3, 0, "device")
    assert sum(echo["latency"]) == 3
    assert len(echo["latency"]) == len(stats["latency_bounds_s"]) + 1
    assert 0 < echo["p50_ms"] <= echo["p99_ms"]
    assert (stats["jobs"]["accepted"], stats["jobs"]["drift"]) == (3, 0)
    assert stats["dag_cache"]["hits"] == 5


def test_metrics_are_well_formed_and_true(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Prometheus's own parser reads them; counters end in _total, units are base units."""
    publish(store, manifest=WITH_SLO)
    client.post(INVOKE, json=BODY)
    store.scheduling.publish(SCHEDULING)
    errors = {"total": PredictionError(0.125, 0.5, 9), "echo@1": PredictionError(0.25, 0.5, 7)}
    store.telemetry.set_prediction_error(errors)
    store.telemetry.count("rejected:queue_full", 2)
    store.server.redis.hset("fb:stats:echo", mapping={"late": 1, "rejected:queue_full": 2})
    store.telemetry.count("swap_bytes", 1000)
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["fusebox_jobs", "succeeded"] == 1
    assert samples["fusebox_jobs", "queued"] == 0
    assert samples["fusebox_job_conservation_drift",] == 0
    assert samples["fusebox_jobs_accepted_total",] == 1
    assert samples["fusebox_rejected_total", "queue_full"] == 2
    assert samples["fusebox_swap_bytes_total", "in"] == 1000
    assert samples["fusebox_request_duration_seconds_count", "echo"] == 1
    assert samples["fusebox_request_duration_seconds_sum", "echo"] == pytest.approx(0.002)
    assert samples["fusebox_request_duration_seconds_bucket", "echo", "+Inf"] == 1
    assert samples["fusebox_dag_cache_hits_total", "cpu", "w1"] == 5
    assert samples["fusebox_evictions_total", "cpu", "w1"] == 2
    assert samples["fusebox_thrash_total", "cpu", "w1"] == 1
    assert samples["fusebox_memory_baseline_bytes", "cpu", "w1"] == 900
    assert samples["fusebox_function_host_bytes", "kept@1", "w1"] == 80
    assert samples["fusebox_function_loads_total", "kept@1", "host", "w1"] == 2
    assert samples["fusebox_function_loads_total", "kept@1", "disk", "w1"] == 1
    assert samples["fusebox_function_load_seconds_total", "kept@1", "host", "w1"] == 0.25
    assert samples["fusebox_function_evictions_total", "kept@1", "w1"] == 3
    assert samples["fusebox_function_thrash_total", "kept@1", "w1"] == 1
    assert samples["fusebox_function_idle_at_eviction_seconds_sum", "kept@1", "w1"] == 6
    assert samples["fusebox_function_idle_at_eviction_seconds_count", "kept@1", "w1"] == 3
    assert samples["fusebox_function_resident_at_eviction_seconds_sum", "kept@1", "w1"] == 30
    assert samples["fusebox_answered_in_time_total", "echo"] == 0
    assert samples["fusebox_slo_violations_total", "echo", "late"] == 1
    assert samples["fusebox_slo_violations_total", "echo", "expired"] == 0
    assert samples["fusebox_function_refused_total", "echo", "queue_full"] == 2
    assert samples["fusebox_goodput_per_second", "echo"] == 1.5
    assert samples["fusebox_utility", "echo"] == pytest.approx(log(2 / (0.1 / 0.2)))
    assert samples["fusebox_prediction_error_ratio", "0.5", "total"] == 0.125
    assert samples["fusebox_function_prediction_error_ratio", "echo@1", "0.9"] == 0.5
    assert samples["fusebox_policy", "laxity"] == 1
    assert samples["fusebox_dispatches_total",] == 40
    assert samples["fusebox_decision_seconds_sum",] == 0.25
    assert samples["fusebox_decision_seconds_count",] == 100
    assert samples["fusebox_decision_quantile_seconds", "0.99"] == 0.003
    assert all(name.startswith("fusebox_") for name in families)
    assert all(family.documentation for family in families.values())


def test_stats_tell_how_functions_are_served(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Rates are null while no scheduler publishes them, counters stand."""
    publish(store)
    client.post(INVOKE, json=BODY)
    store.server.redis.hset("fb:stats:echo", mapping={"late": 1, "rejected:wait_too_long": 3})
    stats = client.get("/v1/stats").json
    (echo,) = stats["functions"]
    assert (stats["scheduling"], echo["goodput_per_s"], echo["utility"]) == (None, None, None)
    assert (echo["late"], echo["violations"], echo["refusals"]) == (1, 1, {"wait_too_long": 3})
    store.scheduling.publish(SCHEDULING)
    stats = client.get("/v1/stats").json
    (echo,) = stats["functions"]
    assert (echo["answered_per_s"], echo["goodput_per_s"], echo["latency_ms"]) == (2.0, 1.5, 100.0)
    assert stats["scheduling"] == {
        "policy": "laxity",
        "decisions": 100,
        "dispatches": 40,
        "decision_p50_ms": 0.125,
        "decision_p99_ms": 3.0,
    }
    assert stats["prediction_error"] == {}


def test_the_last_groups_are_shown(client: FlaskClient, store: Store, worker: FakeWorker) -> None:
    """With when they were on the device; `count` bounds them."""
    publish(store)
    assert client.get("/v1/groups").json == {"groups": []}
    for _ in range(2):
        client.post(INVOKE, json=BODY)
    groups = client.get("/v1/groups").json["groups"]
    assert [(group["worker"], group["measured_ms"]) for group in groups] == [("w1", 20.0)] * 2
    assert client.get("/v1/groups?count=1").json["groups"] == groups[:1]
    assert _code(client.get("/v1/groups?count=0")) == (422, "invalid_input")


def test_a_job_explains_itself(client: FlaskClient, store: Store, worker: FakeWorker) -> None:
    """In both types of records."""
    publish(store)
    job = client.post(INVOKE, json=BODY).json["job"]
    why = client.get(f"/v1/jobs/{job}").json["explanation"]
    assert why["sentence"].startswith("Answered in 2 ms; ")
    assert (why["queue"]["jobs_ahead"], why["group"]["worker"], why["is_late"]) == (0, "w1", False)
    packed = client.get(f"/v1/jobs/{job}", headers={"Accept": "application/msgpack"})
    assert msgpack.unpackb(packed.data)["explanation"] == why


def test_the_status_page_shows_service_and_the_last_groups(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """Decision times, goodput, utility, violations and refusals; a bar for each group."""
    publish(store, manifest=WITH_SLO)
    client.post(INVOKE, json=BODY)
    assert "No scheduler leads." in client.get("/?part").text
    store.telemetry.set_prediction_error({"total": PredictionError(0.125, 0.5, 9)})
    store.scheduling.publish(SCHEDULING)
    store.server.redis.hset("fb:stats:echo", mapping={"late": 1, "rejected:queue_full": 2})
    part = client.get("/?part").text
    service = part[part.index("<h2>Service</h2>") : part.index("<h2>Workers</h2>")]
    for text in (
        "laxity",
        "0.125 ms",
        "3.000 ms",
        ">1.5<",
        ">+1.39<",
        "queue_full",
        "12 %, computing \u2013 %",
    ):
        assert text in service
    assert len(re.findall(r'<rect class="fill', service)) == 1
    assert "1 groups on w1" in service
    [row] = re.findall(r'<tr class="ran">(.*?)</tr>', service)
    assert re.findall(r"<td[^>]*>([^<]*)</td>", row)[:3] == ["w1", "echo@1 \u00d71", "concat"]


def test_the_status_page_shows_what_became_of_functions(client: FlaskClient, store: Store) -> None:
    """The last used first; ages are means over evictions, dashes where there were none."""
    store.workers.report(report(), 60, is_news=False)
    part = client.get("/?part").text
    heads = re.findall(r'<th scope="row">([^<]*)</th>', part)
    assert heads == ["echo@1", "kept@1"]
    cells = re.findall(r'<td class="n[^"]*">([^<]*)</td>', part.partition("kept@1")[2])
    seen = ["\u2013", "80 B", "3", "1", "250 ms", "3", "2.0 s", "10 s", "1", "90 s"]
    assert cells[: len(seen)] == seen
    assert "100 B, 16 B accounted for" in part


def test_the_status_page_shows_strategies_and_gains(client: FlaskClient, store: Store) -> None:
    """The newest group first; a dash where nothing was measured."""
    old, new = "echo@1 x1 + <b>@1 x1", "echo@1 x2 + kept@1 x1"
    strategies = {old: "branches", new: "prefix"}
    measured = {old: {"serial": 3.0, "branches": 2.0}}
    store.workers.report(report(strategies=strategies, measured=measured), 60, is_news=False)
    rows = re.findall(r"<tr><td>(.*?)</td></tr>", client.get("/?part").text)
    cells = [re.split(r"</td><td[^>]*>", row) for row in rows]
    assert cells == [
        [new, "prefix", "\u2013", "\u2013"],
        ["echo@1 x1 + &lt;b&gt;@1 x1", "branches", "2.0 ms", "1.50 \u00d7"],
    ]


def test_the_status_page_shows_functions_and_workers(client: FlaskClient, store: Store) -> None:
    """Rendered here; nothing is fetched from elsewhere, and names are escaped."""
    publish(store)
    store.workers.report(report(device_name="<b>x</b>"), 60, is_news=False)
    page = client.get("/")
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    assert "echo" in page.text
    assert "16 B of 150 MB resident" in page.text
    assert "&lt;b&gt;x&lt;/b&gt;" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    part = client.get("/?part").text
    assert "<html" not in part
    assert "echo" in part
    for text in (page.text, client.get("/docs").text):
        assert re.findall(r"""(?:src|href)=["'](?!/|#)""", text) == []
        for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
            with client.get(path) as found:
                assert found.status_code == 200


def test_the_api_page_shows_every_route_and_error(client: FlaskClient) -> None:
    """A problem's type is a link into it."""
    page = client.get("/docs").text
    assert "/v1/functions/{name}/invoke" in page
    assert 'id="queue_full"' in page


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (45_230_000, "45.2 MB"), (2e14, "200 TB")],
)
def test_bytes_are_written_for_people(count: float, text: str) -> None:
    """Powers of ten, three digits."""
    assert text == in_bytes(count)


@pytest.mark.parametrize(
    ("latency_ms", "text"),
    [(None, "\u2013"), (0.52, "0.5 ms"), (123.4, "123 ms"), (12_345, "12.3 s")],
)
def test_latencies_are_written_for_people(latency_ms: float | None, text: str) -> None:
    """A dash where nothing was measured."""
    assert text == in_ms(latency_ms)


def test_every_route_is_described_and_every_description_is_a_route(
    app: Flask, client: FlaskClient
) -> None:
    """Paths and methods of /openapi.json are those of the URL map."""
    routed = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    described = {
        (path, method)
        for path, item in client.get("/openapi.json").json["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert routed == described


class Description:
    """/openapi.json, to hold answers against."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client
        self._api = client.get("/openapi.json").json

    def check(self, method: str, path: str, url: str, **sent: Any) -> Any:
        """Ask, and hold status, type and body against the description."""
        answer = self._client.open(url, method=method, **sent)
        responses = self._api["paths"][path][method.lower()]["responses"]
        assert str(answer.status_code) in responses, (url, answer.status_code, answer.text)
        response = responses[str(answer.status_code)]
        media = answer.content_type.partition(";")[0]
        assert media in response["content"], (url, media)
        for header in response.get("headers", {}):
            if header != "Preference-Applied":
                assert header in answer.headers, (url, header)
        if answer.is_json:
            self._matches(answer.json, response["content"][media]["schema"], url)
        return answer

    def _matches(self, value: Any, schema: dict[str, Any], at: str) -> None:
        if "$ref" in schema:
            schema = self._api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        assert not kinds or any(_is(value, kind) for kind in kinds), (at, value, kinds)
        assert "enum" not in schema or value in schema["enum"], (at, value)
        if isinstance(value, dict):
            properties, others = schema.get("properties", {}), schema.get("additionalProperties")
            assert set(schema.get("required", ())) <= value.keys(), (at, value.keys())
            for name, item in value.items():
                if name in properties:
                    self._matches(item, properties[name], f"{at}.{name}")
                elif others:
                    self._matches(item, others, f"{at}.{name}")
                else:
                    # problems carry further members, outputs are any tensors
                    assert not properties or "code" in properties, (at, name)
        if isinstance(value, list) and "items" in schema:
            for i, item in enumerate(value):
                self._matches(item, schema["items"], f"{at}[{i}]")


def _is(value: Any, kind: str) -> bool:
    kinds: dict[str, type | tuple[type, ...]] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "number": (int, float),
        "integer": int,
        "null": type(None),
    }
    return isinstance(value, kinds[kind]) and (kind == "boolean" or not isinstance(value, bool))


def test_answers_are_as_described(client: FlaskClient, store: Store, worker: FakeWorker) -> None:
    """Every operation, in its good cases and its common bad ones."""
    check = Description(client).check
    item, job = "/v1/functions/{name}", "/v1/jobs/{job_id}"
    data = pack(artifact())
    headers = {"Content-Type": "application/x-tar", "Content-Digest": digest_header(data)}
    check("PUT", item, "/v1/functions/echo", data=data, headers=headers)
    check("PUT", item, "/v1/functions/echo", data=data[:-1], headers=headers)
    check("PUT", item, "/v1/functions/echo", data=data)
    publish(store, "hooked", WITH_HOOKS)
    check("GET", "/v1/functions", "/v1/functions")
    check("GET", item, "/v1/functions/echo")
    check("GET", item, "/v1/functions/nope")
    check("GET", item + "/logs", "/v1/functions/echo/logs")
    check("GET", item + "/logs", "/v1/functions/echo/logs?count=x")
    check("GET", item + "/graph", "/v1/functions/hooked/graph")
    check("GET", item + "/graph", "/v1/functions/nope/graph")
    invoke = item + "/invoke"
    done = check("POST", invoke, INVOKE, json=BODY)
    check("POST", invoke, INVOKE, json=BODY, headers={"Accept": "application/x-npz"})
    check("POST", invoke, INVOKE, json=BODY, headers={"Accept": "text/html"})
    check("POST", invoke, INVOKE, json=BODY, headers={"Prefer": "respond-async"})
    check("POST", invoke, INVOKE, json={})
    check("POST", invoke, INVOKE, data=b"x" * 100_001)
    check("POST", invoke, INVOKE, data=b"x", content_type="text/plain")
    check("POST", invoke, "/v1/functions/hooked/invoke", data=b"x", content_type="text/plain")
    check("POST", invoke, "/v1/functions/nope/invoke", json=BODY)
    check("GET", job, f"/v1/jobs/{done.json['job']}")
    check("GET", job, f"/v1/jobs/{done.json['job']}?wait=x")
    check("GET", job, f"/v1/jobs/{'0' * 24}")
    check("DELETE", job, f"/v1/jobs/{done.json['job']}")
    for path in (
        "/v1/workers",
        "/v1/groups",
        "/v1/stats",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
    ):
        check("GET", path, path)
    check("GET", "/", "/")
    check("GET", "/docs", "/docs")
    check("DELETE", item, "/v1/functions/echo")
    check("DELETE", item, "/v1/functions/echo")


def test_routes_that_do_not_exist_are_problems(client: FlaskClient) -> None:
    """404 and 405, with Allow."""
    assert _code(client.get("/v1/nothing")) == (404, "not_found")
    wrong = client.post("/v1/functions")
    assert _code(wrong) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["Allow"]
    assert _code(client.get(INVOKE)) == (405, "method_not_allowed")


def _code(answer: Any) -> tuple[int, str]:
    assert answer.content_type == "application/problem+json"
    return answer.status_code, answer.json["code"]
