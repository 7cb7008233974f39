"""API keys as the store keeps them: hashed, never the secret itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from contract import keys
from contract.access import ApiKey
from contract.errors import UnknownKey
from contract.store.server import Server, store_errors


class KeyUse(NamedTuple):
    """A key and when it was last used, to the minute."""

    key: ApiKey
    used_at_s: float | None


class ApiKeys:
    """The API keys of the store."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        with store_errors():
            self._server.redis.hset(keys.API_KEYS, key.id, key.encode())

    def get(self, key_id: str) -> ApiKey | None:
        """The key of this id, over the connections that invocations use; None if there is none."""
        [data] = self._server.call_all([("HGET", keys.API_KEYS, key_id)])
        return None if data is None else ApiKey.decode(data)

    def all(self) -> list[KeyUse]:
        """Every key, oldest first."""
        with store_errors():
            pipe = self._server.redis.pipeline()
            pipe.hvals(keys.API_KEYS)
            pipe.hgetall(keys.API_KEYS_USED)
            records, used = pipe.execute()
        found = [ApiKey.decode(data) for data in records]
        moments = {key_id.decode(): float(at_s) for key_id, at_s in used.items()}
        found.sort(key=lambda key: key.created_at_s)
        return [KeyUse(key, moments.get(key.id)) for key in found]

    def note_use(self, key_id: str, at_s: float) -> None:
        """Remember when a key was used, unless it is revoked."""
        self._server.run("use_key", [key_id, f"{at_s:.0f}"])

    def revoke(self, key_id: str) -> ApiKey:
        """Remove a key; raises UnknownKey."""
        data: Any = self._server.run("revoke_key", [key_id])
        if data is None:
            raise UnknownKey(key=key_id)
        return ApiKey.decode(data)
