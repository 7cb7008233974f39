"""Functions as this process remembers them.

Safe because the store refuses, atomically with the enqueue, a version that is retired or, for a
caller that asked for the latest, no longer the latest: then `forget` and look again. A request
that does not fit a remembered version may fit a newer one: ask `is_current` before refusing it.
"""

from __future__ import annotations

from contract.function import Function, FunctionRef
from contract.store.functions import Functions

MAX_ENTRIES = 10_000


class Lookup:
    """A cache over the registry, by the name that callers use."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._known: dict[FunctionRef, Function] = {}

    def get(self, ref: FunctionRef) -> Function:
        """The version that the name means; raises UnknownFunction."""
        function = self._known.get(ref)
        if function is None:
            if len(self._known) >= MAX_ENTRIES:
                self._known.clear()
            function = self._known[ref] = self._functions.get(ref)
        return function

    def forget(self, ref: FunctionRef) -> None:
        """Read this name from the registry next time."""
        self._known.pop(ref, None)

    def is_current(self, function: Function, ref: FunctionRef) -> bool:
        """Read the registry again; whether the name still means this version."""
        self.forget(ref)
        return self.get(ref).version == function.version
