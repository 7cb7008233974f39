"""Webhooks: what receivers get, when they get it again, and when no more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from cloudevents.http import from_http
from standardwebhooks.webhooks import Webhook

from contract.delivery import State
from contract.origin import Origin
from contract.settings import Settings
from contract.store import Store
from gateway.delivery import signing
from gateway.delivery.formats import FORMATS, End, Format, Message
from tests.integration.delivery.builders import (
    FAILED,
    Receiver,
    end,
    log_of,
)
from tests.integration.store.builders import deploy

Deliver = Callable[..., None]


def test_a_receiver_gets_a_signed_cloudevent(
    store: Store, settings: Settings, receiver: Receiver, deliver: Deliver
) -> None:
    """Structured mode, with the job's record as it is shown, and its trace context."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    origin = Origin(on_success=(receiver.url,), traceparent=trace, tracestate="a=b")
    job = end(store, deploy(store), origin)
    deliver()
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.status, delivery.attempts) == (State.DELIVERED, 204, 1)
    [request] = receiver.requests
    [secret] = signing.valid_secrets(settings, store, time.time())
    event = Webhook(secret).verify(request.body, request.headers)
    assert request.headers["webhook-id"] == job
    # as a receiver's library reads it
    read = from_http(request.headers, request.body)
    assert {name: read[name] for name in event if name != "data"} | {"data": read.data} == event
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert (request.headers["traceparent"], request.headers["tracestate"]) == (trace, "a=b")
    assert event["data"].pop("timings_ms") == {"total": 2.0}
    assert event.pop("time").endswith("Z")
    assert event == {
        "specversion": "1.0",
        "id": job,
        "source": "/v1/functions/echo",
        "type": "dev.fusebox.job.succeeded",
        "subject": job,
        "datacontenttype": "application/json",
        "traceparent": trace,
        "tracestate": "a=b",
        "data": {
            "job": job,
            "function": "echo",
            "version": 1,
            "status": "succeeded",
            "created_at": event["data"]["created_at"],
            "attempts": 1,
            "outputs": {"output": [[0.0, 1.0, 2.0, 3.0]]},
            "group": {"jobs": 0, "functions": 0},
        },
    }


def test_a_failed_job_is_told_to_those_of_failures(
    store: Store, receiver: Receiver, deliver: Deliver
) -> None:
    """And to nobody else."""
    origin = Origin(on_success=(receiver.url + "/s",), on_failure=(receiver.url + "/f",))
    job = end(store, deploy(store), origin, FAILED)
    deliver()
    log_of(store, job)
    [request] = receiver.requests
    event = json.loads(request.body)
    assert (request.path, event["type"]) == ("/hook/f", "dev.fusebox.job.failed")
    assert event["data"]["error"]["code"] == "handler_failed"


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503])
def test_what_may_go_better_is_tried_again(
    store: Store, receiver: Receiver, deliver: Deliver, status: int
) -> None:
    """As the same message, under the same id."""
    receiver.answers = [(status, {}), (204, {})]
    job = end(store, deploy(store), Origin(on_success=(receiver.url,)))
    deliver()
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.attempts) == (State.DELIVERED, 2)
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == job
    assert first.body == second.body


@pytest.mark.parametrize("status", [400, 401, 403, 410, 413, 415, 422])
def test_what_is_refused_for_good_is_not(
    store: Store, receiver: Receiver, deliver: Deliver, status: int
) -> None:
    """It is a dead letter at once, with what was answered."""
    receiver.answers = [(status, {})]
    job = end(store, deploy(store), Origin(on_success=(receiver.url,)))
    deliver()
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.attempts, delivery.status) == (State.GIVEN_UP, 1, status)
    [letter] = store.dead_letters.last(10)
    assert (letter.id, letter.reason) == (f"{job}-0", f"http_{status}")
    assert len(receiver.requests) == 1


def test_attempts_end(store: Store, receiver: Receiver, deliver: Deliver) -> None:
    """A receiver that never gets well is given up after as many as are set."""
    receiver.answers = [(500, {})]
    job = end(store, deploy(store), Origin(on_success=(receiver.url,)))
    deliver()
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.attempts) == (State.GIVEN_UP, 3)
    assert store.dead_letters.last(1)[0].reason == "attempts_exhausted"


def test_a_receiver_that_asks_for_time_gets_it(
    store: Store, receiver: Receiver, deliver: Deliver
) -> None:
    """`Retry-After` is obeyed, where the backoff alone would come far sooner."""
    receiver.answers = [(429, {"Retry-After": "1"}), (200, {})]
    job = end(store, deploy(store), Origin(on_success=(receiver.url,)))
    began_s = time.time()
    deliver()
    [delivery] = log_of(store, job)
    assert delivery.state is State.DELIVERED
    assert delivery.at_s - began_s >= 1


def test_nobody_there_is_tried_again(store: Store, receiver: Receiver, deliver: Deliver) -> None:
    """A connection that is refused says nothing for good."""
    url = receiver.url
    receiver.close()
    job = end(store, deploy(store), Origin(on_success=(url,)))
    deliver()
    [delivery] = log_of(store, job)
    assert (delivery.state, delivery.attempts, delivery.status) == (State.GIVEN_UP, 3, 0)
    assert "ClientConnectorError" in delivery.error


def test_after_a_rotation_both_secrets_verify(
    store: Store, settings: Settings, receiver: Receiver, deliver: Deliver
) -> None:
    """Until the time of the old one is over."""
    [old] = signing.valid_secrets(settings, store, time.time())
    signing.rotate(settings, store, time.time())
    new, also_old = signing.valid_secrets(settings, store, time.time())
    assert also_old == old != new
    job = end(store, deploy(store), Origin(on_success=(receiver.url,)))
    deliver()
    log_of(store, job)
    [request] = receiver.requests
    for secret in (old, new):
        Webhook(secret).verify(request.body, request.headers)
    later_s = time.time() + signing.OVERLAP_S + 1
    assert signing.valid_secrets(settings, store, later_s) == [new]


def test_a_receiver_is_asked_first_where_the_destination_says_so(
    store: Store, receiver: Receiver, deliver: Deliver
) -> None:
    """Once for many deliveries, and told no faster than it allows."""
    receiver.answers = [(200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "600"})]
    function = deploy(store)
    jobs = [end(store, function, Origin(on_success=(f"handshake+{receiver.url}",))) for _ in "123"]
    deliver()
    done = [log_of(store, job)[0] for job in jobs]
    assert {(d.state, d.attempts) for d in done} == {(State.DELIVERED, 1)}
    methods = [request.method for request in receiver.requests]
    assert methods.count("POST") == 3
    assert receiver.requests[0].headers["webhook-request-origin"] == "fusebox"
    assert methods[0] == "OPTIONS"


@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, {}), (200, {"WebHook-Allowed-Origin": "somebody.else"}), (405, {})],
)
def test_a_receiver_that_does_not_want_it_is_not_told(
    store: Store, receiver: Receiver, deliver: Deliver, status: int, headers: dict[str, str]
) -> None:
    """No event is sent."""
    receiver.answers = [(status, headers)]
    job = end(store, deploy(store), Origin(on_success=(f"handshake+{receiver.url}",)))
    deliver()
    [delivery] = log_of(store, job)
    assert delivery.state is State.GIVEN_UP
    assert "handshake" in delivery.error
    assert receiver.posts() == []


def test_a_door_adds_its_format(
    store: Store, receiver: Receiver, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the job with its input, and says body, type and headers."""

    def make(found: End) -> Message:
        body = f"{found.job.spec.function} {len(found.payload)}".encode()
        return Message(body, "text/plain", (("X-Call-Id", found.job.spec.id),))

    monkeypatch.setitem(FORMATS, "plain", Format(make, needs_payload=True))
    function = deploy(store)
    texts = (f"plain+{receiver.url}", f"nobodys+{receiver.url}")
    job = end(store, function, Origin(on_success=texts))
    deliver()
    plain, unknown = log_of(store, job)
    assert plain.state is State.DELIVERED
    assert (unknown.state, unknown.error[:27]) == (State.GIVEN_UP, "no format is called nobodys")
    [request] = receiver.requests
    assert (request.headers["content-type"], request.headers["x-call-id"]) == ("text/plain", job)
    name, size = request.body.decode().split()
    assert (name, int(size) > 16) == ("echo", True)
