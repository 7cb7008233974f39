"""What may be asked of a trigger."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.errors import InvalidInput, MalformedBody
from contract.trigger import Kind, Progress, Trigger
from gateway.triggers.definition import read_definition

CRON = {"name": "a", "function": "f", "cron": {"schedule": "* * * * *"}}


def read(record: Any) -> Trigger:
    """The trigger of a body."""
    return read_definition(json.dumps(record).encode(), ["/"])


def test_what_is_not_said_has_a_default() -> None:
    """Of every kind."""
    cron = read(CRON)
    assert cron.options == {
        "schedule": "* * * * *", "timezone": "UTC", "missed": "skip", "data": {},
    }  # fmt: skip
    assert (cron.kind, cron.input, cron.priority, cron.skips_bad) == (Kind.CRON, "", 0, False)
    stream = read({"name": "a", "function": "f@3", "stream": {"key": "s"}})
    assert stream.options == {"key": "s", "from": "new", "batch": 100}
    assert read({"name": "a", "function": "f", "event": {}}).options == {"filters": []}
    assert read({"name": "a", "function": "f", "watch": {"url": "/tmp"}}).options == {
        "url": "/tmp", "pattern": "*", "every_s": 2.0, "settle_s": 1.0, "existing": "skip",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "A"}, "name"),
        ({"name": None}, "name"),
        ({"function": "f@0"}, "function"),
        ({"other": 1}, "body"),
        ({"event": {}}, "body"),
        ({"cron": None}, "cron"),
        ({"cron": {"schedule": 1}}, "cron.schedule"),
        ({"cron": {"schedule": "* * * * *", "missed": "some"}}, "cron.missed"),
        ({"cron": {"schedule": "* * * * *", "data": "x" * 70_000}}, "cron.data"),
        ({"cron": {"schedule": "* * * * *", "more": 1}}, "cron"),
        ({"input": "{"}, "input"),
        ({"input": 1}, "input"),
        ({"priority": 10}, "priority"),
        ({"priority": True}, "priority"),
        ({"on_bad_input": "cry"}, "on_bad_input"),
    ],
)
def test_what_cannot_be_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    """Of the definition and of its kind."""
    with pytest.raises(InvalidInput) as raised:
        read(CRON | change)
    assert raised.value.extensions["field"] == field


@pytest.mark.parametrize(
    ("kind", "options", "field"),
    [
        ("stream", {"key": ""}, "stream.key"),
        ("stream", {"key": "fb:pending"}, "stream.key"),
        ("stream", {"key": "fusebox.w1"}, "stream.key"),
        ("stream", {"key": "s", "batch": 0}, "stream.batch"),
        ("stream", {"key": "s", "from": 3}, "stream.from"),
        ("event", {"filters": {}}, "event.filters"),
        ("event", {"filters": [{}]}, "event.filters[0]"),
        ("event", {"filters": [{"like": {"type": "x"}}]}, "event.filters[0]"),
        ("event", {"filters": [{"exact": {"type": 1}}]}, "event.filters[0].type"),
        ("event", {"filters": [{"exact": {"Type": "x"}}]}, "event.filters[0].Type"),
        ("event", {"filters": [{"exact": {"type": "x"}}] * 17}, "event.filters"),
        ("watch", {"url": "tmp"}, "watch.url"),
        ("watch", {"url": "/tmp", "pattern": "a/b"}, "watch.pattern"),
        ("watch", {"url": "/tmp", "every_s": 0}, "watch.every_s"),
        ("watch", {"url": "/tmp", "settle_s": -1}, "watch.settle_s"),
        ("watch", {"url": "/tmp", "existing": "some"}, "watch.existing"),
    ],
)
def test_options_of_a_kind_are_checked(kind: str, options: dict[str, Any], field: str) -> None:
    """Naming them with their kind."""
    with pytest.raises(InvalidInput) as raised:
        read({"name": "a", "function": "f", kind: options})
    assert raised.value.extensions["field"] == field


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 3_000])
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    """However it is not."""
    with pytest.raises(MalformedBody):
        read_definition(body, [])


def test_records_survive_the_store() -> None:
    """Definitions whole, progress from the fields that are there."""
    trigger = read(CRON)
    assert Trigger.decode(trigger.encode()) == trigger
    assert Progress.decode({b"at_s": b"1.5", b"fired": b"3", b"later": b"x"}) == Progress(
        at_s=1.5, fired=3
    )
