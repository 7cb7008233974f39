"""/v1/triggers and /v1/events over a real store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from contract.access import Scope, Wish, mint
from contract.settings import Settings
from contract.store import Store, open_store
from contract.store.triggers import Move
from gateway.app import create_app, gateway_of
from tests.integration.gateway.builders import FakeWorker, publish
from tests.integration.gateway.test_platform import Description
from tests.integration.triggers.conftest import eventually, make, queued, trigger
from tests.unit.gateway.manifests import WITH_HOOKS

BATCH = "application/cloudevents-batch+json"
DATA = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
CRON = {"schedule": "0 3 * * *"}
PAID = [{"exact": {"type": "paid"}}]


def event(identity: str, **changed: Any) -> dict[str, Any]:
    """A CloudEvent that `echo` takes."""
    own = {"specversion": "1.0", "id": identity, "source": "/s", "type": "paid", "data": DATA}
    return own | changed


def post(client: FlaskClient, *events: Any) -> Any:
    """Send a batch."""
    return client.post("/v1/events", json=list(events), content_type=BATCH)


def code(answer: Any) -> tuple[int, str]:
    """Status and code of a problem."""
    return answer.status_code, answer.json["code"]


def test_a_trigger_is_made_shown_paused_resumed_and_removed(
    client: FlaskClient, store: Store
) -> None:
    """Its state, its next tick, and its place."""
    publish(store)
    made = make(client, "nightly", cron=CRON | {"timezone": "Europe/Berlin"}, priority=3)
    assert (made["state"], made["kind"], made["fired"]) == ("active", "cron", 0)
    assert made["next_at"].endswith((":00:00.000Z",))
    assert trigger(client, "nightly") == made
    assert client.post("/v1/triggers/nightly/pause").json["state"] == "paused"
    assert trigger(client, "nightly")["next_at"] is None
    assert client.post("/v1/triggers/nightly/resume").json["state"] == "active"
    again = {"name": "nightly", "function": "echo", "event": {}}
    assert code(client.post("/v1/triggers", json=again)) == (409, "trigger_exists")
    assert client.delete("/v1/triggers/nightly").json["name"] == "nightly"
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/test")):
        answer = client.open(f"/v1/triggers/nightly{path}", method=method)
        assert code(answer) == (404, "unknown_trigger")
    assert store.server.redis.keys("fb:trigger*") == [b"fb:triggers:version"]


def test_a_trigger_of_what_cannot_be_called_is_refused(client: FlaskClient, store: Store) -> None:
    """No function, no such folder, a key that holds something else."""
    wanted = {"name": "a", "function": "nope", "event": {}}
    assert code(client.post("/v1/triggers", json=wanted)) == (404, "unknown_function")
    publish(store)
    wanted = {"name": "a", "function": "echo", "watch": {"url": "/etc"}}
    assert code(client.post("/v1/triggers", json=wanted)) == (422, "invalid_input")
    store.server.redis.set("mine", "x")
    wanted = {"name": "a", "function": "echo", "stream": {"key": "mine"}}
    assert code(client.post("/v1/triggers", json=wanted)) == (422, "invalid_input")
    assert client.get("/v1/triggers").json == {"triggers": [], "next": None}


def test_triggers_are_listed_in_pages(client: FlaskClient, store: Store) -> None:
    """By name, each once."""
    publish(store)
    for name in "cabed":
        make(client, name, event={})
    names, after = [], ""
    for _ in range(3):
        page = client.get(f"/v1/triggers?count=2&after={after}").json
        names += [each["name"] for each in page["triggers"]]
        after = page["next"]
    assert names == list("abcde")
    assert after is None


def test_an_event_becomes_a_job_of_every_trigger_that_it_is_for(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """In each mode; what is for nobody is counted."""
    publish(store)
    make(client, "paid", event={"filters": PAID})
    make(client, "all", event={}, input="{inputs: {x: data.inputs.x}}", priority=5)
    answer = post(client, event("1"), event("2", type="other"))
    assert answer.status_code == 202
    assert (answer.json["events"], answer.json["unmatched"]) == (2, 0)
    made = [(job["event"], job["trigger"], job["is_duplicate"]) for job in answer.json["jobs"]]
    assert made == [("1", "paid", False), ("1", "all", False), ("2", "all", False)]
    for job in answer.json["jobs"]:
        done = client.get(f"/v1/jobs/{job['job']}?wait=10").json
        assert done["outputs"] == {"x": [[1.0, 2.0, 3.0, 4.0]]}
        assert store.jobs.get(job["job"]).origin.cause == f"trigger:{job['trigger']}"
    headers = {"ce-specversion": "1.0", "ce-id": "3", "ce-source": "/%E2%82%AC", "ce-type": "paid"}
    single = client.post("/v1/events", json=DATA, headers=headers)
    assert [job["source"] for job in single.json["jobs"]] == ["/€", "/€"]
    client.delete("/v1/triggers/all")
    assert post(client, event("4", type="other")).json == {"events": 1, "unmatched": 1, "jobs": []}
    assert post(client).json == {"events": 0, "unmatched": 0, "jobs": []}
    assert trigger(client, "paid")["fired"] == 2
    text = client.get("/metrics").text
    assert 'fusebox_trigger_calls_total{kind="event"} 5.0' in text
    assert "fusebox_events_unmatched_total 1.0" in text
    assert "fusebox_events_total 4.0" in text


def test_an_event_that_comes_again_is_the_job_that_it_was(
    client: FlaskClient, store: Store, settings: Settings, redis_url: str
) -> None:
    """By source and id, also within a batch and at another gateway process."""
    publish(store)
    make(client, "paid", event={"filters": PAID})
    first = post(client, event("1"), event("1"), event("1", source="/t")).json["jobs"]
    assert [job["is_duplicate"] for job in first] == [False, True, False]
    assert first[0]["job"] == first[1]["job"] != first[2]["job"]
    with closing(open_store(redis_url)) as other_store:
        other = create_app(settings, other_store)
        again = post(other.test_client(), event("1", subject="x")).json["jobs"]
        gateway_of(other).replies.close()
    assert (again[0]["job"], again[0]["is_duplicate"]) == (first[0]["job"], True)
    assert len(queued(store)) == 2


def test_trace_context_and_content_type_travel_with_the_job(
    client: FlaskClient, store: Store, worker: FakeWorker
) -> None:
    """CloudEvents' extension for distributed tracing."""
    publish(store, "echo", WITH_HOOKS)
    make(client, "all", event={})
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    sent = event("1", data="<a/>", datacontenttype="text/xml", traceparent=parent)
    [job] = post(client, sent).json["jobs"]
    assert client.get(f"/v1/jobs/{job['job']}?wait=10").json["result"] == {
        "type": "text/xml", "body": "<a/>",
    }  # fmt: skip
    assert store.jobs.get(job["job"]).origin.traceparent == parent
    [job] = post(client, event("2", traceparent="00-0-0-0")).json["jobs"]
    assert store.jobs.get(job["job"]).origin.traceparent == ""


def test_events_that_cannot_be_read_are_refused_whole(client: FlaskClient, store: Store) -> None:
    """Nothing of the batch is a job; the trigger says why."""
    publish(store)
    make(client, "paid", event={"filters": PAID})
    answer = post(client, event("1"), event("2", data={"inputs": {"x": "no"}}))
    assert code(answer) == (422, "invalid_input")
    assert (answer.json["trigger"], answer.json["event"]) == ("paid", "2")
    assert queued(store) == []
    assert trigger(client, "paid")["state"] == "failing"
    assert "inputs.x" in trigger(client, "paid")["error"]["detail"]
    assert post(client, event("1")).status_code == 202
    assert trigger(client, "paid")["state"] == "active"
    store.functions.retire(store.functions.all()[0].ref)
    assert code(post(client, event("3"))) == (503, "unavailable")


def test_a_full_queue_refuses_a_batch_whole(client: FlaskClient, store: Store) -> None:
    """429 with Retry-After; nothing of it was accepted, and it may come again."""
    publish(store)
    make(client, "paid", event={"filters": PAID})
    assert post(client, *(event(f"a{i}") for i in range(15))).status_code == 202
    full = post(client, *(event(f"b{i}") for i in range(10)))
    assert code(full) == (429, "queue_full")
    assert int(full.headers["Retry-After"]) >= 1
    assert len(queued(store)) == 15
    assert code(post(client, *(event(f"c{i}") for i in range(30)))) == (413, "payload_too_large")
    assert post(client, *(event(f"b{i}") for i in range(5))).status_code == 202


def test_a_paused_trigger_gets_no_events(client: FlaskClient, store: Store) -> None:
    """Until it is resumed."""
    publish(store)
    make(client, "paid", event={"filters": PAID})
    client.post("/v1/triggers/paid/pause")
    assert post(client, event("1")).json["unmatched"] == 1
    client.post("/v1/triggers/paid/resume")
    assert len(post(client, event("2")).json["jobs"]) == 1


def test_an_event_is_tried_out_without_running_it(client: FlaskClient, store: Store) -> None:
    """The mapped payload, whether the filters match, and errors as they would come."""
    publish(store)
    make(client, "paid", event={"filters": PAID}, input="{inputs: {x: data.rows}}")
    test = "/v1/triggers/paid/test"
    media = "application/cloudevents+json"
    rows = [[1, 2, 3, 4]] * 2
    done = client.post(test, json=event("1", data={"rows": rows}), content_type=media).json
    assert (done["is_match"], done["rows"], done["payload"]) == (True, 2, {"inputs": {"x": rows}})
    other = event("1", type="x", data={"rows": rows})
    assert client.post(test, json=other, content_type=media).json["is_match"] is False
    bad = client.post(test, json=event("1", data={}), content_type=media)
    assert code(bad) == (422, "invalid_input")
    make(client, "nightly", cron=CRON | {"data": DATA})
    tick = client.post("/v1/triggers/nightly/test")
    assert (tick.status_code, tick.json["payload"]) == (200, DATA)
    assert queued(store) == []


def test_senders_of_webhooks_may_ask_whether_they_may_send(client: FlaskClient) -> None:
    """The handshake of CloudEvents' webhooks, and POST in Allow."""
    answer = client.options("/v1/events", headers={"WebHook-Request-Origin": "shop.example"})
    assert answer.status_code == 200
    assert "POST" in answer.headers["Allow"]
    assert answer.headers["WebHook-Allowed-Origin"] == "shop.example"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    assert "WebHook-Allowed-Origin" not in client.options("/v1/events").headers


@pytest.fixture
def guarded(settings: Settings, store: Store) -> Iterator[FlaskClient]:
    """A gateway that asks for keys."""
    app = create_app(replace(settings, auth="on"), store)
    yield app.test_client()
    gateway_of(app).replies.close()


def test_keys_need_the_scope_for_what_they_do(guarded: FlaskClient, store: Store) -> None:
    """Invoke sends events, deploy changes triggers, every key reads."""
    publish(store)
    wanted = {"name": "a", "function": "echo", "event": {}}
    allowed = {}
    for scope in (Scope.INVOKE, Scope.DEPLOY):
        key, token = mint(Wish("k", (scope,)))
        store.api_keys.add(key)
        headers = {"Authorization": f"Bearer {token.text}"}
        allowed[scope] = [
            guarded.open(path, method=method, json=body, headers=headers, content_type=media)
            .status_code
            for method, path, body, media in (
                ("POST", "/v1/triggers", wanted, "application/json"),
                ("GET", "/v1/triggers", None, None),
                ("POST", "/v1/events", [], BATCH),
                ("POST", "/v1/triggers/a/pause", None, None),
                ("DELETE", "/v1/triggers/a", None, None),
            )
        ]  # fmt: skip
    assert allowed == {
        Scope.INVOKE: [403, 200, 202, 403, 403],
        Scope.DEPLOY: [201, 200, 403, 200, 200],
    }
    assert guarded.get("/v1/triggers").status_code == 401


def test_answers_are_as_described(client: FlaskClient, store: Store) -> None:
    """Every operation, in its good cases and its common bad ones."""
    check = Description(client).check
    item, one = "/v1/triggers/{name}", "/v1/triggers/a"
    publish(store)
    wanted = {"name": "a", "function": "echo", "cron": CRON | {"data": DATA}}
    check("POST", "/v1/triggers", "/v1/triggers", json=wanted)
    check("POST", "/v1/triggers", "/v1/triggers", json=wanted)
    check("POST", "/v1/triggers", "/v1/triggers", json={})
    check("POST", "/v1/triggers", "/v1/triggers", data=b"{")
    check("GET", "/v1/triggers", "/v1/triggers")
    check("GET", "/v1/triggers", "/v1/triggers?count=0")
    check("GET", item, one)
    check("GET", item, "/v1/triggers/A_b")
    check("POST", item + "/test", one + "/test")
    check("POST", item + "/test", one + "/test", data=b"x")
    check("POST", item + "/pause", one + "/pause")
    check("POST", item + "/resume", one + "/resume")
    check("DELETE", item, one)
    check("DELETE", item, one)
    make(client, "b", event={})
    check("POST", "/v1/events", "/v1/events", json=[event("1")], content_type=BATCH)
    check("POST", "/v1/events", "/v1/events", json=[event("1", data=1)], content_type=BATCH)
    check("POST", "/v1/events", "/v1/events", json=[1], content_type=BATCH)
    check("POST", "/v1/events", "/v1/events", data=b"x", content_type="text/plain")
    check("POST", "/v1/events", "/v1/events", data=b"x" * 100_001, content_type=BATCH)


def test_a_move_for_a_definition_that_is_gone_changes_nothing(
    client: FlaskClient, store: Store
) -> None:
    """A process that led before cannot write into a trigger of the same name."""
    publish(store)
    make(client, "a", cron=CRON)
    old = store.triggers.get("a").trigger
    client.delete("/v1/triggers/a")
    make(client, "a", cron=CRON)
    before = store.triggers.get("a")
    moved = store.triggers.move([Move(old, 1, 0, {"at_s": "1.0"}, {"f": "1"})], {})
    assert moved == [False]
    assert store.triggers.get("a") == before
    assert store.triggers.files("a") == {}
    assert store.triggers.move([Move(before.trigger, 2, 1, {"at_s": "5.0"})], {}) == [True]
    after = store.triggers.get("a").progress
    assert (after.at_s, after.fired, after.skipped) == (5.0, 2, 1)
    assert eventually(lambda: store.triggers.version() == 3, "three changes of definitions")


def test_triggers_are_counted_by_state(client: FlaskClient, store: Store) -> None:
    """As they are shown: one that fails and is paused is paused."""
    publish(store)

    def states() -> tuple[int, ...]:
        shown = [each["state"] for each in client.get("/v1/triggers").json["triggers"]]
        found = store.triggers.states()
        assert found._asdict() == {state: shown.count(state) for state in found._fields}
        return tuple(found)

    def move(name: str, error: str) -> None:
        known = store.triggers.get(name).trigger
        # a file by that name says nothing of the trigger
        files = {"error": "" if error else "1"}
        moved = store.triggers.move([Move(known, fields={"error": error}, files=files)], {})
        assert moved == [True]

    assert states() == (0, 0, 0)
    for name in ("first", "second", "third"):
        make(client, name, event={})
    client.post("/v1/triggers/first/pause")
    move("second", '{"code": "queue_full", "detail": "full"}')
    assert states() == (1, 1, 1)
    text = client.get("/metrics").text
    for line in ('triggers{state="active"} 1.0', 'triggers{state="paused"} 1.0',
                 'triggers{state="failing"} 1.0', "outbox_jobs 0.0",
                 "deliveries_waiting 0.0"):  # fmt: skip
        assert f"\nfusebox_{line}\n" in text
    client.post("/v1/triggers/second/pause")
    assert states() == (1, 2, 0)
    client.post("/v1/triggers/second/resume")
    assert states() == (2, 1, 0)
    move("third", '{"code": "queue_full", "detail": "full"}')
    move("third", "")
    assert states() == (2, 1, 0)
    move("second", '{"code": "queue_full", "detail": "full"}')
    for name in ("first", "second", "third"):
        client.delete(f"/v1/triggers/{name}")
    assert states() == (0, 0, 0)
    assert store.server.redis.keys("fb:trigger*") == [b"fb:triggers:version"]
