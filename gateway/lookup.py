"""Functions and aliases as this process remembers them.

Safe because the store refuses, atomically with the enqueue, a version that is retired or, for a
caller that asked for the latest or by an alias, no longer what that means: then `forget` and look
again. A request that does not fit a remembered version may fit a newer one: ask `is_current` before
refusing it.
"""

from __future__ import annotations

import random

from contract.aliases import Alias
from contract.function import Function, FunctionRef
from contract.store.aliases import Aliases
from contract.store.functions import Functions

MAX_ENTRIES = 10_000


class Lookup:
    """A cache over the registry, by the name that callers use."""

    def __init__(self, functions: Functions, aliases: Aliases) -> None:
        self._functions = functions
        self._aliases = aliases
        self._known: dict[FunctionRef, Function] = {}
        self._pointed: dict[FunctionRef, Alias] = {}

    def get(self, ref: FunctionRef, sticky: str = "") -> Function:
        """The version that the name means; raises UnknownFunction and UnknownAlias.

        Of an alias with several versions one is drawn, or chosen by the sticky key.
        """
        if ref.alias:
            version = self._alias(ref).choose(sticky, random.random())
            ref = FunctionRef(ref.name, version)
        function = self._known.get(ref)
        if function is None:
            if len(self._known) >= MAX_ENTRIES:
                self._known.clear()
            function = self._known[ref] = self._functions.get(ref)
        return function

    def forget(self, ref: FunctionRef) -> None:
        """Read this name from the registry next time."""
        self._known.pop(ref, None)
        self._pointed.pop(ref, None)

    def is_current(self, function: Function, ref: FunctionRef) -> bool:
        """Read the registry again; whether the name still means this version."""
        self.forget(ref)
        if ref.alias:
            return any(function.version == version for version, _ in self._alias(ref).versions)
        return self.get(ref).version == function.version

    def _alias(self, ref: FunctionRef) -> Alias:
        alias = self._pointed.get(ref)
        if alias is None:
            if len(self._pointed) >= MAX_ENTRIES:
                self._pointed.clear()
            alias = self._pointed[ref] = self._aliases.get(ref.name, ref.alias)
        return alias
