"""Groups on their way to workers."""

from __future__ import annotations

import base64
import json

import msgpack

from contract.job import JobId
from contract.settings import Settings
from workers.celery_app import RUN_GROUP, Envelopes, make_app


def test_each_group_has_a_message_of_its_own() -> None:
    """A task of Celery's with its own id; nothing is sent, so no broker has to be there."""
    envelopes = Envelopes(make_app(Settings(store_url="unix:///nobody-listens")))
    jobs = {group: [JobId(f"{group}{k}") for k in range(3)] for group in ("g", "h")}
    messages = [json.loads(envelopes.seal("w", group, its)) for group, its in jobs.items()]
    envelopes.close()
    for message, (group, its) in zip(messages, jobs.items(), strict=True):
        args, kwargs, _ = msgpack.unpackb(base64.b64decode(message["body"]))
        assert (args, kwargs) == ([group, its], {})
        assert message["headers"]["task"] == RUN_GROUP
    assert messages[0]["headers"]["id"] != messages[1]["headers"]["id"]
