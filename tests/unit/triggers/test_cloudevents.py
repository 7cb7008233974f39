"""CloudEvents over HTTP, by the letter, and as the library of its authors writes them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import (
    InvalidInput,
    MalformedBody,
    PayloadTooLarge,
    RequestError,
    UnsupportedMediaType,
)
from gateway.triggers.cloudevents import MAX_EVENTS, decode, unescape
from gateway.triggers.event import Event

PLAIN = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20)
# header values are stripped, and `%` and `"` are what this library does not encode
words = st.text("abcXYZ019-._~:/?#@!$&'()*+,;=", min_size=1, max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def environ(headers: dict[str, str], content_type: str = "") -> dict[str, str]:
    """Headers as WSGI has them."""
    named = {f"HTTP_{name.upper().replace('-', '_')}": v for name, v in headers.items()}
    return named | {"CONTENT_TYPE": content_type or headers.get("content-type", "")}


def binary(body: bytes = b"", content_type: str = "", **attributes: str) -> Event:
    """An event in binary mode, beside the plain attributes."""
    headers = {f"ce-{name}": value for name, value in (PLAIN | attributes).items()}
    [event] = decode(environ(headers, content_type), body)
    return event


def structured(record: Any, content_type: str = "application/cloudevents+json") -> list[Event]:
    """The events of a JSON body."""
    body = record if isinstance(record, bytes) else json.dumps(record).encode()
    return decode({"CONTENT_TYPE": content_type}, body)


@settings(max_examples=50)
@given(words, words, words, words, st.lists(values, min_size=1))
def test_what_the_library_writes_is_read(
    identity: str, source: str, kind: str, subject: str, data: list[Any]
) -> None:
    """Binary and structured."""
    attributes = {"id": identity, "source": source, "type": kind, "subject": subject, "ext1": "x"}
    theirs = CloudEvent(attributes | {"datacontenttype": "application/json"}, data)
    for headers, body in (to_binary(theirs), to_structured(theirs)):
        [event] = decode(environ(dict(headers)), body)
        assert (event.id, event.source, event.type) == (identity, source, kind)
        assert event.attribute("subject") == subject
        assert event.attribute("ext1") == "x"
        assert event.attribute("time") == theirs["time"]
        assert event.record()["data"] == data
        content_type, sent = event.data()
        assert (content_type, json.loads(sent)) == ("application/json", data)


@given(st.binary(min_size=1))
def test_bytes_of_the_library_are_the_same_bytes(data: bytes) -> None:
    """`data_base64`, and a body in binary mode."""
    about = {"type": "t", "source": "/s", "datacontenttype": "application/octet-stream"}
    theirs = CloudEvent(about, data)
    for headers, body in (to_binary(theirs), to_structured(theirs)):
        [event] = decode(environ(dict(headers)), body)
        assert event.data() == ("application/octet-stream", data)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%e2%82%ac", "€"),
        # one round
        ("%2541", "%41"),
        ('"a b"', "a b"),
        (r'"a\"b\\c"', r"a\b\c".replace("\\b", '"b')),
        # quotes first, then percent
        ('"%22x%22"', '"x"'),
        ("%22x%22", '"x"'),
        # not percent-encoded at all, as some clients send it
        ("/t Euro €".encode().decode("latin-1"), "/t Euro €"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("  a  ", "a"),
    ],
)
def test_headers_are_unquoted_then_decoded_once(header: str, expected: str) -> None:
    """Section 3.1.3.2 of the binding."""
    assert unescape(header, "x") == expected


@pytest.mark.parametrize("header", ["%C0%A0", "%FF", "\xe9", '"a', '"a"b', "%ED%A0%80"])
def test_headers_that_are_no_text_are_refused(header: str) -> None:
    """Overlong UTF-8 and surrogates, half an encoding, quotes that do not end."""
    with pytest.raises(InvalidInput, match=r"^ce-x: expected"):
        unescape(header, "x")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_what_is_encoded_by_the_letter_comes_back(text: str) -> None:
    """Space, quote, percent and everything outside of U+0021 to U+007E as %XX."""
    encoded = "".join(
        f"%{byte:02X}" if not 0x21 <= byte <= 0x7E or byte in b'"%' else chr(byte)
        for byte in text.encode()
    )
    assert unescape(encoded, "x") == text


def test_data_keeps_its_type() -> None:
    """JSON without a type is JSON; a text of another type is that text; no data is none."""
    assert structured(PLAIN | {"data": {"a": 1}})[0].data() == ("application/json", b'{"a":1}')
    xml = PLAIN | {"datacontenttype": "text/xml", "data": "<a/>"}
    assert structured(xml)[0].data() == ("text/xml", b"<a/>")
    assert structured(xml)[0].record()["data"] == "<a/>"
    assert structured(PLAIN | {"data": "a"})[0].data() == ("application/json", b'"a"')
    assert structured(PLAIN | {"data": None})[0].data() == ("application/json", b"null")
    assert structured(PLAIN)[0].data()[1] == b""
    assert "data" not in structured(PLAIN)[0].record()
    assert binary(b"\x00\xff", "image/png").data() == ("image/png", b"\x00\xff")
    assert binary(b"\x00\xff", "image/png").record()["data_base64"] == "AP8="
    assert binary(b"x", "text/plain; charset=utf-8").record()["data"] == "x"


def test_batches_are_read_in_order() -> None:
    """An empty one too."""
    media = "application/cloudevents-batch+json; charset=UTF-8"
    assert structured([], media) == []
    events = structured([PLAIN | {"id": str(i), "n": i, "ok": True} for i in range(3)], media)
    assert [(e.id, e.attribute("n"), e.attribute("ok")) for e in events] == [
        (str(i), str(i), "true") for i in range(3)
    ]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "body: expected an event"),
        ({}, "specversion: expected"),
        (PLAIN | {"specversion": "0.3"}, "specversion: expected 1.0"),
        (PLAIN | {"id": ""}, "id: expected"),
        (PLAIN | {"id": 1}, "id: expected"),
        (PLAIN | {"source": None}, "source: expected"),
        (PLAIN | {"type": "a\nb"}, "type: expected no control"),
        (PLAIN | {"subject": ""}, "subject: expected"),
        (PLAIN | {"time": "yesterday"}, "time: expected"),
        (PLAIN | {"Ext": "x"}, "Ext: expected a name"),
        (PLAIN | {"a_b": "x"}, "a_b: expected a name"),
        (PLAIN | {"ext": 2**31}, "ext: expected"),
        (PLAIN | {"ext": 1.5}, "ext: expected"),
        (PLAIN | {"ext": "x" * 5000}, "ext: expected at most"),
        (PLAIN | {f"e{i}": "x" for i in range(70)}, "body: expected at most"),
        (PLAIN | {"data": 1, "data_base64": "YQ=="}, "data: expected data or data_base64"),
        (PLAIN | {"data_base64": "a-b"}, "data_base64: expected base64"),
        (PLAIN | {"data_base64": 1}, "data_base64: expected base64"),
        (PLAIN | {"datacontenttype": 1}, "datacontenttype: expected"),
    ],
)
def test_what_is_no_event_is_refused_by_field(record: Any, message: str) -> None:
    """In structured mode, and in a batch with its number before the name."""
    with pytest.raises(InvalidInput, match=f"^{message}"):
        structured(record)
    with pytest.raises(InvalidInput, match=r"^\[1\]"):
        structured([PLAIN, record], "application/cloudevents-batch+json")


def test_other_requests_are_refused_by_what_is_wrong_with_them() -> None:
    """Formats, encodings, sizes and modes."""
    with pytest.raises(UnsupportedMediaType):
        decode({"CONTENT_TYPE": "application/json"}, b"{}")
    with pytest.raises(UnsupportedMediaType):
        structured(PLAIN, "application/cloudevents+avro")
    with pytest.raises(UnsupportedMediaType):
        structured(PLAIN, "application/cloudevents+json; charset=utf-16")
    with pytest.raises(MalformedBody):
        structured(b"{")
    with pytest.raises(InvalidInput, match="an array"):
        structured(PLAIN, "application/cloudevents-batch+json")
    with pytest.raises(PayloadTooLarge):
        structured([PLAIN] * (MAX_EVENTS + 1), "application/cloudevents-batch+json")
    with pytest.raises(InvalidInput, match=r"^ce-datacontenttype"):
        binary(datacontenttype="text/plain")
    with pytest.raises(InvalidInput, match=r"^ce-source"):
        decode(environ({"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t"}), b"")


@given(
    st.dictionaries(st.sampled_from(["id", "source", "type", "a", "time"]), st.text(max_size=9)),
    st.sampled_from(["", "application/json", "application/cloudevents+json", "text/x", "\xff"]),
    st.binary(max_size=40),
)
def test_nothing_that_is_sent_makes_another_error(
    attributes: dict[str, str], content_type: str, body: bytes
) -> None:
    """Headers are any bytes."""
    sent = {name: value.encode().decode("latin-1") for name, value in attributes.items()}
    headers = {f"ce-{name}": value for name, value in ({"specversion": "1.0"} | sent).items()}
    with suppress(RequestError):
        events = decode(environ(headers, content_type), body)
        for event in events:
            event.record()
