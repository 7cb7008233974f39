"""Definitions as one process remembers them, by the version that the store counts."""

from __future__ import annotations

from collections.abc import Callable

from contract.store.triggers import Definitions, Triggers
from contract.trigger import Kind, Trigger
from gateway.triggers.attempts import is_of
from gateway.triggers.filters import Index

# before the first look
UNREAD = -1


class Book:
    """The triggers, and those of events by type."""

    def __init__(self, triggers: Triggers) -> None:
        self._triggers = triggers
        self._known = Definitions()
        self.version = UNREAD
        self.index = Index(())
        # of event triggers, without versions
        self.functions: tuple[str, ...] = ()

    def refresh(self, version: int) -> bool:
        """Read the definitions again if this is another version; whether it was."""
        if version == self.version:
            return False
        self._known = self._triggers.definitions(self._known.raw)
        events = [each for each in self._known.values() if is_of(each, Kind.EVENT)]
        self.index = Index(events)
        self.functions = tuple(sorted({each.function.partition("@")[0] for each in events}))
        # last: whoever looks meanwhile reads again
        self.version = version
        return True

    def follow(self, apply: Callable[[], None]) -> None:
        """Apply what has changed since, if anything has; again where that raises."""
        if self.refresh(self._triggers.version()):
            try:
                apply()
            except BaseException:
                self.version = UNREAD
                raise

    def of(self, kind: Kind) -> dict[str, Trigger]:
        """The triggers of a kind that are not paused, by name."""
        return {each.name: each for each in self._known.values() if is_of(each, kind)}
