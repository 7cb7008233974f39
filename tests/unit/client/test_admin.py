"""What those do who run the platform: each method asks its route."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.errors import InvalidInput
from deploy.client import NEVER, Body, Client, Told
from tests.unit.deploy.fake_gateway import JOB, FakeGateway, job

EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


@pytest.mark.parametrize(
    ("method", "args", "line", "sent", "answer"),
    [
        ("create_key", ["shop", ["invoke"], "9/day"], "POST /v1/keys",
         {"name": "shop", "scopes": ["invoke"], "rate": "9/day"}, {"key": "fb_1_2"}),
        ("keys", [], "GET /v1/keys", None, {"keys": [1]}),
        ("revoke_key", ["a/b"], "DELETE /v1/keys/a/b", None, {"id": "a"}),
        ("aliases", ["echo"], "GET /v1/functions/echo/aliases", None, {"aliases": [1]}),
        ("put_alias", ["echo", "prod", {3: 90, 4: 10}], "PUT /v1/functions/echo/aliases/prod",
         {"versions": {"3": 90, "4": 10}}, {"alias": "prod"}),
        ("remove_alias", ["echo", "prod"], "DELETE /v1/functions/echo/aliases/prod", None, {}),
        ("roll_back", ["echo", "prod"], "POST /v1/functions/echo/aliases/prod/rollback", None, {}),
        ("load", ["echo", 2.5], "POST /v1/functions/echo/load", None, {}),
        ("unload", ["echo"], "POST /v1/functions/echo/unload", None, {}),
        ("create_trigger", [{"name": "n"}], "POST /v1/triggers", {"name": "n"}, {}),
        ("trigger", ["n"], "GET /v1/triggers/n", None, {}),
        ("remove_trigger", ["n"], "DELETE /v1/triggers/n", None, {}),
        ("pause_trigger", ["n"], "POST /v1/triggers/n/pause", None, {}),
        ("resume_trigger", ["n"], "POST /v1/triggers/n/resume", None, {}),
        ("test_trigger", ["n", EVENT], "POST /v1/triggers/n/test", EVENT, {}),
        ("test_trigger", ["n", None], "POST /v1/triggers/n/test", None, {}),
        ("send_events", [[EVENT]], "POST /v1/events", [EVENT], {}),
        ("dead_letters", [7], "GET /v1/dead-letters", None, {}),
        ("dead_letter", ["l"], "GET /v1/dead-letters/l", None, {}),
        ("redrive", ["l"], "POST /v1/dead-letters/l/redrive", None, {}),
        ("purge", ["l"], "DELETE /v1/dead-letters/l", None, {}),
        ("purge", [], "DELETE /v1/dead-letters", None, {}),
        ("webhook_secrets", [], "GET /v1/webhooks/secret", None, {}),
        ("webhook_secrets", [True], "POST /v1/webhooks/secret/rotate", None, {}),
    ],
)  # fmt: skip
def test_each_asks_its_route(
    gateway: FakeGateway, method: str, args: list[Any], line: str, sent: Any, answer: dict[str, Any]
) -> None:
    """With what is wished as JSON, of the type that the route takes."""
    verb, _, path = line.partition(" ")
    gateway.on(verb, path, (200, answer))
    with Client(gateway.url, retries=NEVER) as client:
        found = getattr(client.admin, method)(*args)
    assert found == (next(iter(answer.values())) if isinstance(found, list) else answer)
    (asked,) = gateway.asked
    assert sent == (json.loads(asked.body) if asked.body else None)
    media = {"test_trigger": "application/cloudevents+json"}
    media["send_events"] = "application/cloudevents-batch+json"
    expected = media.get(method, "application/json") if asked.body else None
    assert expected == asked.headers.get("content-type")


def test_triggers_are_read_page_by_page(gateway: FakeGateway) -> None:
    """Until there is no next one."""
    pages = {None: ([1, 2], "b"), "b": ([3], None)}

    def page(asked: Any) -> tuple[int, dict[str, Any]]:
        found, following = pages[asked.query.get("after")]
        return 200, {"triggers": found, "next": following}

    gateway.on("GET", "/v1/triggers", page)
    with Client(gateway.url, retries=NEVER) as client:
        assert client.admin.triggers() == [1, 2, 3]


def test_a_call_says_who_is_told_and_which_version_it_keeps_to(gateway: FakeGateway) -> None:
    """In header fields, which cannot hold everything."""
    gateway.on("POST", "/v1/functions/echo@prod/invoke", (202, job("queued")))
    body = Body("application/json", b"{}")
    told = Told(["https://a.example/x", "job:next"], ["stream:late"])
    with Client(gateway.url, retries=NEVER) as client:
        assert client.call("echo@prod", body, 0, sticky="user 7", told=told)["job"] == JOB
        (asked,) = gateway.asked
        names = ("fusebox-sticky", "fusebox-on-success", "fusebox-on-failure")
        sent = [asked.headers[name] for name in names]
        assert sent == ["user 7", "https://a.example/x, job:next", "stream:late"]
        with pytest.raises(InvalidInput, match="Fusebox-On-Success: expected printable ASCII"):
            client.call("echo", body, told=Told(["https://a\r\nX: y"]))
        with pytest.raises(InvalidInput, match="sticky: expected"):
            client.call("echo", body, sticky="")
