"""Aliases of functions, kept with their versions: each move is one script."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from contract import keys
from contract.aliases import MAX_ALIASES, MAX_BEFORE, Alias, encode_versions
from contract.errors import InvalidInput, UnknownAlias, UnknownFunction
from contract.function import FunctionRef
from contract.store.server import Server, store_errors

FIELD = b"a:"


class Aliases:
    """The aliases of the store."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def of(self, function: str) -> dict[str, Alias]:
        """The aliases of a function, by name; raises UnknownFunction."""
        with store_errors():
            fields: Any = self._server.redis.hgetall(keys.function(function))
        if b"latest" not in fields:
            raise UnknownFunction(f"No function {function} is deployed.", function=function)
        return _aliases(fields)

    def of_all(self, functions: Iterable[str]) -> dict[str, dict[str, Alias]]:
        """The aliases of several functions in one round trip; none of those that are gone."""
        names = list(functions)
        with store_errors():
            pipe = self._server.redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(keys.function(name))
            found = pipe.execute()
        return {name: _aliases(fields) for name, fields in zip(names, found, strict=True)}

    def get(self, function: str, name: str) -> Alias:
        """One alias; raises UnknownFunction and UnknownAlias."""
        wanted = ["latest", f"a:{name}"]
        with store_errors():
            fields: Any = self._server.redis.hmget(keys.function(function), wanted)
        latest, record = fields
        if latest is None:
            raise UnknownFunction(f"No function {function} is deployed.", function=function)
        if record is None:
            raise unknown_alias(function, name)
        return Alias.decode(name, record)

    def put(self, function: str, alias: Alias) -> Alias:
        """Make an alias or move it; as it is then, with what it pointed at before.

        Raises UnknownFunction naming a version that is not deployed, and InvalidInput where the
        function has as many aliases as it may.
        """
        return self._put(function, alias.name, encode_versions(alias.versions))

    def rollback(self, function: str, name: str) -> Alias:
        """Move an alias back to what it pointed at before its last move.

        Raises UnknownAlias, InvalidInput where nothing was before, and UnknownFunction naming a
        version that has been removed since.
        """
        return self._put(function, name, "")

    def remove(self, function: str, name: str) -> Alias:
        """Remove an alias, which its versions outlive; raises UnknownAlias."""
        record = self._server.run("remove_alias", [function, name])
        if record is None:
            raise unknown_alias(function, name)
        return Alias.decode(name, record)

    def _put(self, function: str, name: str, versions: str) -> Alias:
        reply: bytes = self._server.run(
            "put_alias", [function, name, versions, MAX_ALIASES, MAX_BEFORE]
        )
        if not reply.startswith(b"!"):
            return Alias.decode(name, reply)
        reason, _, version = reply.decode().partition(" ")
        if reason == "!unknown_alias":
            raise unknown_alias(function, name)
        if reason == "!no_before":
            raise InvalidInput.of("alias", "one that was moved", f"{name}, which never was")
        if reason == "!too_many":
            expected = f"at most {MAX_ALIASES} aliases of a function"
            raise InvalidInput.of("alias", expected, f"{name} as one more")
        assert reason == "!unknown_function", reply
        ref = str(FunctionRef(function, int(version)))
        raise UnknownFunction(f"No function {ref} is deployed.", function=ref)


def unknown_alias(function: str, name: str) -> UnknownAlias:
    """The error for an alias that a function has not."""
    return UnknownAlias(f"The function {function} has no alias {name}.", function=function)


def _aliases(fields: dict[bytes, bytes]) -> dict[str, Alias]:
    found = sorted((field[2:].decode(), data) for field, data in fields.items()
                   if field.startswith(FIELD))  # fmt: skip
    return {name: Alias.decode(name, data) for name, data in found}
