"""W3C Trace Context by the letter."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.trace import (
    MAX_MEMBERS,
    MAX_STATE_CHARS,
    TraceContext,
    new_span_id,
    new_trace,
    parse,
    parse_state,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"
HEX = "0123456789abcdef"
IDS = st.tuples(
    st.text(HEX, min_size=32, max_size=32).filter(lambda x: x.strip("0")),
    st.text(HEX, min_size=16, max_size=16).filter(lambda x: x.strip("0")),
)
KEYS = st.from_regex(r"[a-z0-9][a-z0-9_\-*/@]{0,20}", fullmatch=True)
VALUES = st.from_regex(r"[!-+\--<>-~][ !-+\--<>-~]{0,20}[!-+\--<>-~]", fullmatch=True)


@given(IDS, st.integers(0, 255))
def test_a_context_survives_its_header(ids: tuple[str, str], flags: int) -> None:
    """With the flags that are known, and no others."""
    context = parse(f"00-{ids[0]}-{ids[1]}-{flags:02x}")
    assert context == TraceContext(*ids, flags & 3)
    assert parse(context.traceparent) == context
    assert context.is_sampled == bool(flags & 1)


@given(IDS, st.integers(1, 254), st.text(max_size=20))
def test_later_versions_are_read_as_far_as_they_are_known(
    ids: tuple[str, str], version: int, more: str
) -> None:
    """What they add comes behind a dash; answers are of version 00."""
    head = f"{version:02x}-{ids[0]}-{ids[1]}-03"
    expected = TraceContext(*ids, 3)
    assert parse(head) == expected
    assert parse(f"{head}-{more}") == expected
    assert parse(f"{head}x{more}") is None
    assert expected.traceparent.startswith("00-")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        GOOD[:-1],
        GOOD + "0",
        GOOD + "-",
        GOOD + "-what-the-future",
        GOOD.upper(),
        GOOD.replace("00-", "ff-", 1),
        GOOD.replace("00-", "0-", 1),
        GOOD.replace("-01", "-0g"),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00_{TRACE}_{SPAN}_01",
        f"{GOOD},{GOOD}",
        f"{GOOD}, {GOOD}",
        f"{GOOD}\n",
        f"00-{TRACE}-{SPAN}-\u0660\u0661",
        f"00-.{TRACE[1:]}-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent_begins_a_new_trace(header: str) -> None:
    """Its tracestate with it."""
    assert parse(header, "a=1") is None


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never an error."""
    found = parse(text, text)
    assert found is None or re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", found.traceparent)
    state = parse_state(text)
    assert parse_state(state) == state
    assert len(state) <= MAX_STATE_CHARS


def test_blanks_around_a_header_do_not_matter() -> None:
    """HTTP has them optional."""
    assert parse(f" \t{GOOD} ") == TraceContext(TRACE, SPAN, 1)


@given(st.dictionaries(KEYS, VALUES, max_size=MAX_MEMBERS))
def test_a_tracestate_is_passed_on_in_its_order(members: dict[str, str]) -> None:
    """Members are what they were; blanks and empty members between them are not."""
    texts = [f"{key}={value}" for key, value in members.items()]
    expected = ",".join(texts)
    assert parse_state(" ,\t".join(texts) + ",") == expected
    assert parse(GOOD, expected) == TraceContext(TRACE, SPAN, 1, expected)


@pytest.mark.parametrize(
    "state",
    [
        "a",
        "a=",
        "=1",
        "A=1",
        "a =1",
        "a=1=2",
        "a=1,a=2",
        "a=1,b",
        "ä=1",
        "a=ä",
        "a=\x7f",
        "-a=1",
        "a.b=1",
        "a" * 257 + "=1",
        "a=" + "1" * 257,
        ",".join(f"k{k}=1" for k in range(MAX_MEMBERS + 1)),
    ],
)
def test_a_tracestate_that_is_not_understood_is_dropped_alone(state: str) -> None:
    """The trace goes on."""
    assert parse(GOOD, state) == TraceContext(TRACE, SPAN, 1)


def test_a_long_tracestate_loses_its_long_members_first() -> None:
    """Then the last ones; what stays, stays whole and in order."""
    long = [f"long{k}={'x' * 200}" for k in range(2)]
    short = [f"k{k}={'y' * 85}" for k in range(20)]
    kept = parse_state(",".join([long[0], *short, long[1]])).split(",")
    assert [member for member in kept if member in long] == long[:1]
    assert [member for member in kept if member in short] == short
    many = parse_state(",".join(f"k{k:02}={'z' * 120}" for k in range(30))).split(",")
    assert many == [f"k{k:02}={'z' * 120}" for k in range(len(many))]
    assert 512 < len(",".join(many)) <= MAX_STATE_CHARS


def test_ids_made_here_are_valid_and_differ() -> None:
    """A child is in the same trace, with its state."""
    traces = {new_trace() for _ in range(50)}
    assert len({trace.trace_id for trace in traces}) == 50
    for trace in traces:
        assert parse(trace.traceparent) == trace
        child = trace._replace(state="a=1").child(new_span_id())
        assert (child.trace_id, child.flags, child.state) == (trace.trace_id, trace.flags, "a=1")
        assert child.span_id != trace.span_id
