"""Which events a trigger is for."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.trigger import Kind, Trigger
from gateway.triggers.event import Event
from gateway.triggers.filters import Index, matches

words = st.text("ab", max_size=3)
conditions = st.dictionaries(st.sampled_from(["type", "source", "ext"]), words, min_size=1)
filters = st.lists(
    st.dictionaries(st.sampled_from(["exact", "prefix", "suffix"]), conditions, min_size=1),
    max_size=3,
)
events = st.builds(
    lambda kind, source, more: Event("1", source, kind, more=more),
    words,
    words,
    st.dictionaries(st.just("ext"), words, max_size=1),
)


def trigger(name: str, wanted: Any) -> Trigger:
    """An event trigger with these filters."""
    return Trigger(name, "g" * 16, Kind.EVENT, "f", {"filters": wanted}, "", 0, False, 0.0)


@settings(max_examples=50)
@given(st.lists(filters, max_size=8), events)
def test_the_index_finds_what_asking_every_trigger_finds(wanted: list[Any], event: Event) -> None:
    """In any order."""
    triggers = [trigger(str(i), each) for i, each in enumerate(wanted)]
    found = Index(triggers).find(event)
    expected = {each.name for each in triggers if matches(each.options["filters"], event)}
    assert {each.name for each in found} == expected
    assert len(found) == len(expected)


def test_all_conditions_must_hold_and_what_is_not_there_matches_nothing() -> None:
    """Exact, at the beginning, at the end."""
    event = Event("1", "/shop/7", "order.paid", more={"subject": "a.png", "n": 5, "ok": True})
    for wanted, expected in (
        ([], True),
        ([{"exact": {"type": "order.paid", "source": "/shop/7"}}], True),
        ([{"exact": {"type": "order.paid", "source": "/shop"}}], False),
        ([{"prefix": {"source": "/shop"}}, {"suffix": {"subject": ".png"}}], True),
        ([{"prefix": {"source": "/shop"}, "suffix": {"subject": ".jpg"}}], False),
        ([{"exact": {"n": "5", "ok": "true"}}], True),
        ([{"prefix": {"nothing": "x"}}], False),
    ):
        assert matches(wanted, event) == expected, wanted
