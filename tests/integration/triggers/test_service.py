"""The service of the triggers over a real store: it fires, fails, goes on, and is taken over."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from contract.settings import Settings
from contract.store import Store
from contract.store.triggers import Move
from contract.tensors import TensorSpec
from gateway.calls import Call, Result, submit_all
from gateway.context import Gateway
from gateway.events.lead import Leader, ServiceEnded
from gateway.events.services import Service
from gateway.triggers import watches
from tests.integration.gateway.builders import FakeWorker, publish
from tests.integration.triggers.conftest import Leading, eventually, make, queued, trigger
from tests.unit.gateway.manifests import MANIFEST

DATA = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
EVERY_SECOND = {"schedule": "* * * * * *", "data": DATA}
ENTRY: Any = {"data": '{"inputs": {"x": [[1, 2, 3, 4]]}}'}


def jobs_of(store: Store, name: str) -> int:
    """How many jobs that wait are a trigger's."""
    return sum(job.origin.cause == f"trigger:{name}" for job in queued(store))


def pending_entries(store: Store, stream: str, group: str) -> int:
    """Entries that were read and not acknowledged."""
    found: Any = store.server.redis.xpending(stream, group)
    return int(found["pending"])


def test_a_cron_trigger_fires_at_its_ticks_and_not_while_it_is_paused(
    client: FlaskClient, store: Store, leading: Leading
) -> None:
    """Each tick once, though another process leads in between; ticks of a pause never."""
    publish(store)
    make(client, "tick", cron=EVERY_SECOND)
    with leading():
        eventually(lambda: jobs_of(store, "tick") >= 2, "two ticks")
    with leading():
        count = trigger(client, "tick")["fired"]
        eventually(lambda: trigger(client, "tick")["fired"] > count, "another tick")
        client.post("/v1/triggers/tick/pause")
    fired = trigger(client, "tick")["fired"]
    jobs = queued(store)
    assert fired == len(jobs) == len({job.spec.id for job in jobs})
    held: Any = store.server.redis.keys("fb:idem:*")
    assert len(held) == fired
    with leading():
        assert trigger(client, "tick")["state"] == "paused"


def test_missed_ticks_are_made_up_for_as_the_trigger_says(
    client: FlaskClient, store: Store, leading: Leading
) -> None:
    """After an hour in which nobody led."""
    publish(store)
    for missed in ("skip", "one", "all"):
        make(client, missed, cron={"schedule": "*/20 * * * *", "missed": missed, "data": DATA})
        known = store.triggers.get(missed).trigger
        store.triggers.move([Move(known, fields={"at_s": repr(time.time() - 3_600)})], {})
    with leading():
        eventually(lambda: trigger(client, "skip")["skipped"] == 1, "the gap to be noted")
        eventually(lambda: trigger(client, "all")["fired"] >= 3, "three ticks of one hour")
    assert [jobs_of(store, name) for name in ("skip", "one", "all")] == [0, 1, 3]


def test_a_trigger_that_fails_says_why_and_goes_on_when_it_can(
    client: FlaskClient, store: Store, leading: Leading
) -> None:
    """A function that takes no such input, then one that does; others are not held up."""
    publish(store)
    make(client, "bad", cron=EVERY_SECOND | {"data": {"inputs": {}}})
    make(client, "good", cron=EVERY_SECOND)
    with leading():
        eventually(lambda: jobs_of(store, "good"), "a tick of the other one")
        failing = eventually(
            lambda: (r := trigger(client, "bad"))["state"] == "failing" and r, "it to fail"
        )
        assert failing["error"]["code"] == "invalid_input"
        assert failing["retry_at"] is not None
        assert jobs_of(store, "bad") == 0
        publish(store, "other", replace(MANIFEST, inputs=(TensorSpec("y", "float32", (None, 4)),)))
        client.delete("/v1/triggers/bad")
        make(client, "bad", cron=EVERY_SECOND | {"data": {"inputs": {"y": [[1, 2, 3, 4]]}}},
             function="other")  # fmt: skip
        eventually(lambda: trigger(client, "bad")["fired"], "a tick")
        assert trigger(client, "bad")["state"] == "active"


def test_entries_of_a_stream_become_jobs_and_are_acknowledged_when_those_settle(
    client: FlaskClient, store: Store, leading: Leading, redis_url: str
) -> None:
    """Not before; who leads next goes on with the same jobs."""
    publish(store)
    make(client, "s", stream={"key": "orders", "batch": 3})
    for _ in range(5):
        store.server.redis.xadd("orders", ENTRY)
    with leading():
        eventually(lambda: len(queued(store)) == 3, "a batch of jobs")
    assert pending_entries(store, "orders", "fusebox:s") == 3
    with leading():
        # the jobs that they are already
        eventually(
            lambda: store.server.redis.hget("fb:counters", "trigger_duplicates:stream") == b"3",
            "the entries to be found again",
        )
        assert len(queued(store)) == 3
        worker = FakeWorker(redis_url)
        worker.start()
        eventually(lambda: trigger(client, "s")["fired"] == 5, "all entries")
        eventually(
            lambda: pending_entries(store, "orders", "fusebox:s") == 0, "their acknowledgement"
        )
        worker.stop()
    client.delete("/v1/triggers/s")
    assert store.server.redis.xinfo_groups("orders") == []


def test_a_bad_entry_stops_a_stream_or_is_passed_over(
    client: FlaskClient, store: Store, leading: Leading
) -> None:
    """As the trigger says; the order of the others stays."""
    publish(store)
    make(client, "stop", stream={"key": "orders"})
    make(client, "skip", stream={"key": "orders"}, on_bad_input="skip")
    make(client, "mapped", stream={"key": "orders"}, on_bad_input="skip",
         input="{inputs: {x: [[to_number(data.a), `0`, `0`, `0`]]}}")  # fmt: skip
    for entry in (ENTRY, {"data": "{"}, ENTRY, {"a": "7"}):
        store.server.redis.xadd("orders", entry)
    with leading():
        eventually(lambda: trigger(client, "skip")["skipped"] == 2, "two bad entries")
        eventually(lambda: trigger(client, "stop")["state"] == "failing", "it to fail")
        eventually(lambda: trigger(client, "mapped")["skipped"] == 3, "three of another form")
    counts = [jobs_of(store, name) for name in ("stop", "skip", "mapped")]
    assert counts == [1, 2, 1]
    assert "not JSON" in trigger(client, "stop")["error"]["detail"]


def test_a_stream_that_is_deleted_begins_anew(
    client: FlaskClient, store: Store, leading: Leading
) -> None:
    """And one that becomes something else fails until it is a stream again."""
    publish(store)
    make(client, "s", stream={"key": "orders", "from": "start"})
    with leading():
        store.server.redis.delete("orders")
        store.server.redis.xadd("orders", ENTRY)
        eventually(lambda: len(queued(store)) == 1, "the entry of the new stream")
        store.server.redis.delete("orders")
        store.server.redis.set("orders", "x")
        eventually(lambda: trigger(client, "s")["state"] == "failing", "it to fail")


def test_a_file_becomes_a_job_once_it_is_finished(
    client: FlaskClient, store: Store, leading: Leading, settings: Settings
) -> None:
    """Those from before the trigger do not; one that is replaced is another one."""
    publish(store)
    folder = Path(settings.watched[0])
    (folder / "old.json").write_text("{}")
    os.utime(folder / "old.json", (1, 1))
    quick = {"every_s": 0.1, "settle_s": 0.3, "pattern": "*.json"}
    make(client, "w", watch={"url": str(folder)} | quick)
    with leading():
        with (folder / "a.json").open("w") as file:
            for part in ('{"inputs": ', '{"x": [[1, 2, ', "3, 4]]}}"):
                file.write(part)
                file.flush()
                threading.Event().wait(0.15)  # a writer that takes its time
        eventually(lambda: trigger(client, "w")["fired"] == 1, "the file")
        (folder / "b.json").write_text('{"inputs": {"x": [[5, 6, 7, 8], [1, 2, 3, 4]]}}')
        eventually(lambda: trigger(client, "w")["fired"] == 2, "another file")
    with leading():
        (folder / "a.json").write_text('{"inputs": {"x": [[0, 0, 0, 0]]}}')
        eventually(lambda: trigger(client, "w")["fired"] == 3, "the file that was replaced")
    assert [job.spec.rows for job in queued(store)] == [1, 2, 1]
    assert trigger(client, "w")["error"] is None
    assert set(store.triggers.files("w")) == {"old.json", "a.json", "b.json"}


def test_triggers_of_one_folder_make_their_calls_in_one_move(
    client: FlaskClient, store: Store, leading: Leading, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What one of them cannot read is its own affair."""
    publish(store)
    moves: list[list[str]] = []

    def noted(gateway: Gateway, calls: Sequence[Call], **more: Any) -> list[Result]:
        moves.append([call.origin.cause for call in calls])
        return submit_all(gateway, calls, **more)

    monkeypatch.setattr(watches, "submit_all", noted)
    folder = Path(settings.watched[0])
    look = {"url": str(folder), "settle_s": 0, "pattern": "*.json"}
    make(client, "a", watch=look | {"every_s": 0.1})
    make(client, "b", watch=look | {"every_s": 0.2})
    make(client, "bad", watch=look | {"every_s": 0.1}, input="{inputs: {y: data.inputs.x}}")
    with leading():
        for name in ("one", "two"):
            made = folder.with_name(name)
            made.write_text('{"inputs": {"x": [[5, 6, 7, 8]]}}')
            made.rename(folder / f"{name}.json")
        eventually(lambda: trigger(client, "b")["fired"] == 2, "both files")
        eventually(lambda: trigger(client, "bad")["error"], "an error")
    assert (jobs_of(store, "a"), jobs_of(store, "b"), jobs_of(store, "bad")) == (2, 2, 0)
    both = [move for move in moves if {"trigger:a", "trigger:b"} <= {*move}]
    assert sum(move.count("trigger:a") for move in both) == 2
    assert trigger(client, "a")["error"] is None
    assert store.triggers.files("bad") == {}


def test_a_folder_that_is_gone_is_an_error_until_it_is_back(
    client: FlaskClient, store: Store, leading: Leading, settings: Settings
) -> None:
    """A bad file is passed over where the trigger says so."""
    publish(store)
    folder = Path(settings.watched[0]) / "inner"
    quick = {"every_s": 0.1, "settle_s": 0, "existing": "all"}
    make(client, "w", watch={"url": str(folder)} | quick, on_bad_input="skip")
    with leading():
        error = eventually(lambda: trigger(client, "w")["error"], "an error")
        assert error["code"] == "folder_unreadable"
        # all at once: a file that is being written is another one a moment later
        made = folder.with_name("made")
        made.mkdir()
        (made / "a.json").write_text("{")
        (made / "b.json").write_text('{"inputs": {"x": [[5, 6, 7, 8]]}}')
        made.rename(folder)
        client.post("/v1/triggers/w/resume")
        eventually(lambda: trigger(client, "w")["fired"] == 1, "the good file")
        assert trigger(client, "w")["skipped"] == 1
        (folder / "a.json").unlink()
        eventually(lambda: set(store.triggers.files("w")) == {"b.json"}, "it to be forgotten")


def test_one_process_leads_and_another_takes_over(settings: Settings, store: Store) -> None:
    """Services run under the lead alone; one that dies ends the process that leads."""
    log: list[str] = []
    may_die = threading.Event()

    def service(name: str) -> Service:
        def run(_gateway: Gateway, stop: threading.Event) -> None:
            log.append(f"{name} runs")
            if name == "first":
                may_die.wait()
                raise RuntimeError("broken")
            stop.wait()
            log.append(f"{name} stops")

        return Service(name, run)

    gateway = Gateway.wire(settings, store)
    stop = threading.Event()
    raised: list[str] = []

    def lead(name: str) -> None:
        try:
            Leader(gateway, [service(name)]).run(stop)
        except ServiceEnded as error:
            raised.append(str(error))

    first = threading.Thread(target=lead, args=("first",))
    first.start()
    eventually(lambda: log, "the first to lead")
    second = threading.Thread(target=lead, args=("second",))
    second.start()
    may_die.set()
    first.join()
    eventually(lambda: "second runs" in log, "the second to lead")
    stop.set()
    second.join()
    assert log == ["first runs", "second runs", "second stops"]
    assert raised == ["first: ended unexpectedly"]
    assert not store.workers.is_led("events")
