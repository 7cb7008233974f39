"""The registry: immutable, numbered versions of functions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from contract import keys
from contract.aliases import Alias
from contract.errors import AliasInUse, UnknownFunction
from contract.function import Function, FunctionRef, Manifest
from contract.store.aliases import unknown_alias
from contract.store.server import Server, store_errors


class Functions:
    """The functions of the store."""

    def __init__(self, server: Server, result_ttl_s: float) -> None:
        self._server = server
        self._ttl_s = int(result_ttl_s)

    def publish(
        self,
        name: str,
        digest: str,
        manifest: Manifest,
        compute_ms: Mapping[int, float] = MappingProxyType({}),
    ) -> Function:
        """Make this artifact the latest version, atomically."""
        function = Function(name, 0, digest, time.time(), manifest, dict(compute_ms))
        record = function.encode().replace(b'"version": 0', b'"version": "%VERSION%"', 1)
        version = self._server.run("publish", [name, record])
        return self.get(FunctionRef(name, version))

    def get(self, ref: FunctionRef) -> Function:
        """A deployed version; the latest for version 0, for an alias that of most weight.

        Raises UnknownFunction and UnknownAlias.
        """
        key = keys.function(ref.name)
        with store_errors():
            fields: Any
            if ref.version:
                fields = self._server.redis.hmget(key, ["latest", f"v:{ref.version}"])
                data = fields[1] if fields[0] else None
            else:
                # both fields of one moment: a version may be retired between two reads
                fields = self._server.redis.hgetall(key)
                data = fields.get(b"v:" + _version(ref, fields))
        if data is None:
            raise UnknownFunction(f"No function {ref} is deployed.", function=str(ref))
        return Function.decode(data)

    def get_accepted(self, ref: FunctionRef) -> Function:
        """The version a job was accepted for, though it may be retired since."""
        with store_errors():
            pipe = self._server.redis.pipeline()
            pipe.hget(keys.function(ref.name), f"v:{ref.version}")
            pipe.hget(keys.RETIRED, str(ref))
            deployed, retired = pipe.execute()
        data = deployed or retired
        if data is None:
            raise UnknownFunction(f"No function {ref} is deployed.", function=str(ref))
        return Function.decode(data)

    def versions(self, name: str) -> list[int]:
        """The numbers of the deployed versions, oldest first; raises UnknownFunction."""
        with store_errors():
            fields: Any = self._server.redis.hkeys(keys.function(name))
        numbers = sorted(int(f[2:]) for f in fields if f.startswith(b"v:"))
        if not numbers:
            raise UnknownFunction(f"No function {name} is deployed.", function=name)
        return numbers

    def numbers(self) -> dict[str, list[int]]:
        """The numbers of the deployed versions of every function, by name, oldest first."""
        with store_errors():
            names: Any = sorted(self._server.redis.smembers(keys.FUNCTIONS))
            pipe = self._server.redis.pipeline()
            for name in names:
                pipe.hkeys(keys.function(name.decode()))
            found = pipe.execute()
        return {
            name.decode(): sorted(int(f[2:]) for f in fields if f.startswith(b"v:"))
            for name, fields in zip(names, found, strict=True)
        }

    def all(self) -> list[Function]:
        """The latest version of every function, by name."""
        with store_errors():
            names: Any = self._server.redis.smembers(keys.FUNCTIONS)
            pipe = self._server.redis.pipeline()
            for name in sorted(names):
                pipe.hgetall(keys.function(name.decode()))
            found = pipe.execute()
        latest = (fields.get(b"v:" + fields.get(b"latest", b"")) for fields in found)
        return [Function.decode(data) for data in latest if data]

    def latest(self) -> list[FunctionRef]:
        """The latest version of every function, not read: two round trips."""
        with store_errors():
            names: Any = sorted(self._server.redis.smembers(keys.FUNCTIONS))
            pipe = self._server.redis.pipeline()
            for name in names:
                pipe.hget(keys.function(name.decode()), "latest")
            versions = pipe.execute()
        return [
            FunctionRef(name.decode(), int(version))
            for name, version in zip(names, versions, strict=True)
            if version is not None
        ]

    def retire(self, ref: FunctionRef) -> list[int]:
        """Take a version, or all for version 0 with all aliases, out of service.

        Raises UnknownFunction, and AliasInUse where an alias points to the version.
        """
        versions: list[int] | bytes = self._server.run("retire", [ref.name, ref.version])
        if isinstance(versions, bytes):
            alias = versions.decode()
            raise AliasInUse(
                f"The alias {alias} points to {ref}, so it stays; move or remove the alias first.",
                function=str(ref),
                alias=alias,
            )
        if not versions:
            raise UnknownFunction(f"No function {ref} is deployed.", function=str(ref))
        return sorted(versions)

    def removed(self, refs: Iterable[FunctionRef]) -> list[FunctionRef]:
        """Of these versions those that are neither deployed nor needed by an accepted job."""
        refs = list(refs)
        with store_errors():
            pipe = self._server.redis.pipeline(transaction=False)
            for ref in refs:
                pipe.hexists(keys.function(ref.name), f"v:{ref.version}")
                pipe.hexists(keys.RETIRED, str(ref))
            found = pipe.execute()
        known = zip(found[::2], found[1::2], strict=True)
        return [ref for ref, is_known in zip(refs, known, strict=True) if not any(is_known)]

    def digests(self) -> set[str]:
        """Digests of every artifact that a deployed version or an accepted job may need."""
        self._server.run("forget", [self._ttl_s])
        with store_errors():
            names: Any = self._server.redis.smembers(keys.FUNCTIONS)
            pipe = self._server.redis.pipeline()
            pipe.hvals(keys.RETIRED)
            for name in names:
                pipe.hgetall(keys.function(name.decode()))
            retired, *deployed = pipe.execute()
        records = [*retired]
        for fields in deployed:
            records += [data for field, data in fields.items() if field.startswith(b"v:")]
        return {Function.decode(data).digest for data in records}


def _version(ref: FunctionRef, fields: Mapping[bytes, bytes]) -> bytes:
    """The number that a name without one means; raises UnknownAlias."""
    latest = fields.get(b"latest", b"")
    if not ref.alias or not latest:
        return latest
    record = fields.get(f"a:{ref.alias}".encode())
    if record is None:
        raise unknown_alias(ref.name, ref.alias)
    return str(Alias.decode(ref.alias, record).main).encode()
