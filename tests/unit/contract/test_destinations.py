"""Destinations: what is one, and that it reads back as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.delivery import Delivery, State
from contract.destinations import MAX_DESTINATIONS, Destination, Kind, parse, parse_all, url_of
from contract.errors import InvalidArtifact, InvalidInput
from contract.function import Manifest
from contract.origin import Origin
from tests.integration.store.builders import a_manifest

NAMES = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
SUFFIXES = st.sampled_from(["", "@1", "@27", "@prod", "@blue-green_2"])
HOSTS = st.sampled_from(
    ["example.com", "a.b.example", "localhost", "93.184.216.34", "[2606:2800:220::1]", "x_y.test"]
)
PORTS = st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format))
PATHS = st.from_regex(
    r"(?:/[A-Za-z0-9._~%!$&'()*+;=:@/-]{0,20}(?:\?[a-z0-9=&]{0,10})?)?", fullmatch=True
)
URLS = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https"]), HOSTS, PORTS, PATHS)
FORMATS = st.sampled_from(["cloudevent", "openfaas", "prediction"])
DESTINATIONS = st.one_of(
    st.builds(Destination, st.just(Kind.WEBHOOK), URLS, FORMATS, st.booleans()),
    st.builds(lambda n, s: Destination(Kind.FUNCTION, n + s), NAMES, SUFFIXES),
    st.from_regex(r"events:[A-Za-z0-9._:-]{1,30}", fullmatch=True).map(
        lambda key: Destination(Kind.STREAM, key)
    ),
)


@given(DESTINATIONS)
def test_a_destination_reads_back_as_it_was_written(destination: Destination) -> None:
    """`parse` undoes `text`, and the text of what was read is that which was read."""
    assert parse(destination.text) == destination


@given(st.text(max_size=60))
def test_any_other_text_is_refused_by_name(text: str) -> None:
    """Never with another error; what is taken reads back."""
    try:
        found = parse(text, "Fusebox-On-Success")
    except InvalidInput as error:
        refusal = error
    else:
        assert parse(found.text) == found
        return
    assert refusal.extensions["field"] == "Fusebox-On-Success"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "echo",
        "ftp://example.com/",
        "https://",
        "https:///path",
        "https://user:secret@example.com/",
        "https://example.com#part",
        "https://example.com/a,b",
        "https://example.com/a b",
        "https://example.com\\@127.0.0.1/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://2130706433/",
        "https://127.1/",
        "https://0x7f.0.0.1/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.0.0.1./",
        "https://[fe80::1%25eth0]/",
        "https://exa\u200bmple.com/",
        "https://-.example/",
        "a+b+https://example.com/",
        "handshake+handshake+https://example.com/",
        "Openfaas+https://example.com/",
        "function:",
        "function:Echo",
        "function:echo@",
        "stream:fb:outbox",
        "stream:events:",
        "stream:events:a b",
        "stream:other",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_what_is_no_destination(text: str) -> None:
    """Among them hosts that other readers take for addresses."""
    with pytest.raises(InvalidInput, match="destination: expected "):
        parse(text)


def test_lanes_are_by_host_and_port() -> None:
    """Whatever the path, the format and the letters' case."""
    lanes = {
        parse(text).lane
        for text in (
            "https://Example.com/a",
            "openfaas+https://example.com:443/b?c",
            "handshake+https://EXAMPLE.COM",
        )
    }
    assert lanes == {"example.com:443"}
    assert parse("function:a@1").lane == parse("function:b").lane == "function"


def test_the_parts_of_a_url() -> None:
    """As they are dialled."""
    url = url_of("https://[::1]:8443/a?b=c")
    assert (url.scheme, url.host, url.port, url.path) == ("https", "::1", 8443, "/a?b=c")
    assert url_of("http://example.com").port == 80


def test_a_list_is_bounded_and_has_nobody_twice() -> None:
    """A destination named twice is told once."""
    texts = [f"function:f{n}" for n in range(MAX_DESTINATIONS)]
    assert len(parse_all([*texts, texts[0]], "x")) == MAX_DESTINATIONS
    with pytest.raises(InvalidInput, match="x: expected at most 8 destinations, got 9"):
        parse_all([*texts, "function:one-more"], "x")


def test_a_manifest_names_destinations() -> None:
    """Optional, and checked as everything in it."""
    manifest = a_manifest(on_success=("function:next",), on_failure=("https://example.com/x",))
    assert Manifest.decode(manifest.encode()) == manifest
    record = a_manifest().as_json()
    del record["on_success"], record["on_failure"]
    assert Manifest.from_json(record).on_success == ()
    with pytest.raises(InvalidArtifact, match=r"manifest.json: on_success: .*function:NAME"):
        Manifest.from_json(record | {"on_success": ["nobody"]})
    with pytest.raises(InvalidArtifact, match="on_failure: expected a list of destinations"):
        Manifest.from_json(record | {"on_failure": "function:next"})


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        (Origin(), ""),
        (Origin(on_success=("function:a",)), "s"),
        (Origin(on_failure=("function:a",)), "f"),
        (Origin(is_kept=True), "f"),
        (Origin(on_success=("function:a",), is_kept=True), "sf"),
    ],
)
def test_an_origin_says_which_ends_are_heard_of(origin: Origin, told: str) -> None:
    """Others do not go through the outbox."""
    assert origin.told == told


def test_a_delivery_reads_back() -> None:
    """With all that its log shows."""
    delivery = Delivery("function:a", State.GIVEN_UP, 1.5, 0.0, 3, 2.5, 410, "gone", "j")
    assert Delivery.decode(delivery.encode()) == delivery
