"""Events of jobs: what stands on the wire, and where to go on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import FuseboxError, UnknownJob
from deploy.client import Event, Retries, Unreachable
from deploy.client.events import Following, Parser
from deploy.client.request import Lost, Reply
from deploy.client.talk import Talk
from tests.unit.deploy.fake_gateway import JOB

words = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=6)
data = st.lists(st.integers(0, 9) | words, max_size=3)
some_events = st.lists(
    st.tuples(st.integers(1, 99).map(str), st.sampled_from(["queued", "progress", "x"]), data),
    max_size=5,
)
HEAD = Reply(200, "OK", {"content-type": "text/event-stream; charset=utf-8"}, b"")


def wire(told: list[tuple[str, str, Any]], end: str, comment: str) -> bytes:
    """The same as a server writes it, with a comment before each."""
    lines = [
        f":{comment}{end}id: {number}{end}event:{kind}{end}data: {json.dumps(what)}{end}{end}"
        for number, kind, what in told
    ]
    return "".join(lines).encode()


@given(
    some_events,
    st.sampled_from(["\n", "\r\n", "\r"]),
    words,
    st.lists(st.integers(1, 40), max_size=30),
    st.booleans(),
)
def test_events_are_the_same_however_they_are_cut(
    told: list[tuple[str, str, Any]], end: str, comment: str, cuts: list[int], has_mark: bool
) -> None:
    """Between any two bytes, with any of the ends that a line may have."""
    left = (b"\xef\xbb\xbf" if has_mark else b"") + wire(told, end, comment)
    parser, found = Parser(), []
    for cut in cuts:
        found += parser.feed(left[:cut])
        left = left[cut:]
    found += parser.feed(left)
    # an end of CR alone may be the half of CR LF: it counts when it comes, not when more comes
    assert [Event(*one) for one in told] == found


def test_the_fields_of_the_specification() -> None:
    """Lines of data join, what has no data is no event, an id stays until there is another."""
    parser = Parser("0")
    assert parser.feed(b"data: [1,\ndata:2]\n\n") == [Event("0", "message", [1, 2])]
    assert parser.feed(b"event: empty\nid: 7\n\n") == []
    assert parser.feed(b"data\n\n") == [Event("7", "message", "")]
    assert parser.feed(b"id: 8\0\nfoo: bar\nretry: 1\ndata: x\n\n") == [Event("7", "message", "x")]
    assert parser.last_id == "7"


def test_half_an_event_moves_nothing() -> None:
    """It comes again, whole, on the next connection."""
    parser = Parser("1")
    assert parser.feed(b"id: 2\ndata: 1\n") == []
    assert parser.last_id == "1"
    parser.feed(b"\n")
    assert parser.last_id == "2"


def test_an_event_without_end_is_refused() -> None:
    """Memory is bounded."""
    for part in (b"data: 0123456789\n", b"0123456789"):
        parser = Parser(max_bytes=1000)
        assert parser.feed(b"data: " + part * 80) == []
        with pytest.raises(FuseboxError, match="expected at most 1000 bytes"):
            parser.feed(part * 80)


def following(attempts: int = 3) -> Following:
    """Of a job, by a client that does not draw."""
    rule = Retries(attempts=attempts, first_s=1.0, total_s=100.0)
    return Following(Talk("http://gateway", rule, lambda: 1.0), JOB, 0.0)


def test_a_connection_that_ends_is_taken_up_where_it_ended() -> None:
    """And the parts of an event that was cut are forgotten."""
    job = following()
    assert "Last-Event-ID" not in job.request.headers
    job.take(HEAD, 0.0)
    first = wire([("1", "queued", {}), ("2", "started", {})], "\n", "")
    kinds = [event.kind for event in job.take(first + b"id: 3\ndata: 1", 1.0)]
    assert kinds == ["queued", "started"]
    job.take(Lost.broken("http://gateway", OSError("gone")), 1.0)
    assert job.pause_s(1.0) == 1.0
    assert job.request.headers["Last-Event-ID"] == "2"
    job.take(HEAD, 2.0)
    (last,) = job.take(wire([("3", "done", {"status": "succeeded"})], "\n", ""), 2.0)
    assert (last, job.is_done) == (Event("3", "done", {"status": "succeeded"}), True)


def test_who_never_answers_is_given_up() -> None:
    """After the attempts of the rule, with what the last one ended with."""
    job = following(attempts=3)
    lost = Lost.unsent("http://gateway", OSError("refused"))
    for _ in range(2):
        job.take(lost, 0.0)
        job.pause_s(0.0)
    job.take(lost, 0.0)
    with pytest.raises(Unreachable, match="start one with"):
        job.pause_s(0.0)


def test_a_long_job_keeps_its_attempts() -> None:
    """A comment now and then is all that it has to tell."""
    job = following(attempts=2)
    for at_s in range(0, 10_000, 50):
        job.take(HEAD, at_s)
        job.take(b":\n\n", at_s)
        assert job.pause_s(at_s) == 1.0


def test_whoever_has_seen_the_end_is_told_so() -> None:
    """204: nothing comes after the event that was named."""
    job = following()
    assert job.take(Reply(204, "No Content", {}, b""), 0.0) == []
    assert job.is_done


def test_an_answer_that_is_no_stream_is_an_error() -> None:
    """Of the platform's tree where the platform says so."""
    problem = {"content-type": "application/problem+json"}
    body = json.dumps({"code": "unknown_job", "detail": "no"}).encode()
    with pytest.raises(UnknownJob):
        following().take(Reply(404, "Not Found", problem, body), 0.0)
    with pytest.raises(FuseboxError, match="expected text/event-stream, got 200 'text/html'"):
        following().take(Reply(200, "OK", {"content-type": "text/html"}, b""), 0.0)
