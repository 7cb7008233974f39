"""Which events a trigger is for: pure, and found without asking every trigger.

The dialect is that of the CloudEvents Subscriptions API: a list of `{"exact": {attribute: text}}`,
`{"prefix": ...}` and `{"suffix": ...}`, of which all must hold. An attribute that an event does not
have matches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from contract.trigger import Trigger
from gateway.triggers.event import Event

MAX_FILTERS = 16
MAX_TEXT_CHARS = 1_024
DIALECTS = ("exact", "prefix", "suffix")

Filter = Mapping[str, Mapping[str, str]]


def matches(filters: Sequence[Filter], event: Event) -> bool:
    """Whether every condition of every filter holds."""
    return all(
        _holds(dialect, text, event.attribute(name))
        for each in filters
        for dialect, conditions in each.items()
        for name, text in conditions.items()
    )


def _holds(dialect: str, text: str, value: str | None) -> bool:
    if value is None:
        return False
    if dialect == "exact":
        return value == text
    return value.startswith(text) if dialect == "prefix" else value.endswith(text)


class Index:
    """Event triggers by the type that they ask for exactly, so that most are never looked at."""

    def __init__(self, triggers: Iterable[Trigger]) -> None:
        self._by_type: dict[str, list[Trigger]] = {}
        self._others: list[Trigger] = []
        for trigger in sorted(triggers, key=lambda trigger: trigger.name):
            exact = exact_type(trigger.options["filters"])
            if exact is None:
                self._others.append(trigger)
            else:
                self._by_type.setdefault(exact, []).append(trigger)

    def find(self, event: Event) -> list[Trigger]:
        """The triggers that an event is for."""
        asked = (*self._by_type.get(event.type, ()), *self._others)
        return [trigger for trigger in asked if matches(trigger.options["filters"], event)]


def exact_type(filters: Sequence[Filter]) -> str | None:
    """The one type that these filters let through; None where there may be several."""
    return next(
        (each["exact"]["type"] for each in filters if "type" in each.get("exact", {})), None
    )
