"""What those do who run the platform: API keys, aliases, triggers and so on, by their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from deploy.client.answers import Record
from deploy.client.request import function_path


class Admin:
    """Management of one platform, over the connections of a `Client`."""

    def __init__(self, request: Callable[..., Record]) -> None:
        self._request = request

    def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        rate: str | None = None,
        expires_in_s: float | None = None,
    ) -> Record:
        """Make an API key; `key` of this answer alone holds it."""
        wish: Record = {"name": name, "scopes": list(scopes)}
        limits = {"rate": rate, "expires_in_s": expires_in_s}
        wish |= {field: value for field, value in limits.items() if value is not None}
        return self._request("POST", "/v1/keys", json=wish)

    def keys(self) -> list[Record]:
        """Every API key, oldest first, without its secret."""
        found: list[Record] = self._request("GET", "/v1/keys")["keys"]
        return found

    def revoke_key(self, key_id: str) -> Record:
        """Revoke an API key."""
        return self._request("DELETE", f"/v1/keys/{quote(key_id, safe='')}")

    def aliases(self, name: str) -> list[Record]:
        """Every alias of a function, by name."""
        found: list[Record] = self._request("GET", _alias(name))["aliases"]
        return found

    def put_alias(self, name: str, alias: str, versions: Mapping[int, int]) -> Record:
        """Make an alias or move it; `versions` are weights by version."""
        wish = {"versions": {str(version): weight for version, weight in versions.items()}}
        return self._request("PUT", _alias(name, alias), json=wish)

    def remove_alias(self, name: str, alias: str) -> Record:
        """Remove an alias; its versions stay."""
        return self._request("DELETE", _alias(name, alias))

    def roll_back(self, name: str, alias: str) -> Record:
        """Move an alias back to what it pointed at before."""
        return self._request("POST", f"{_alias(name, alias)}/rollback")


def _alias(name: str, alias: str = "") -> str:
    path = f"{function_path(name)}/aliases"
    return f"{path}/{quote(alias, safe='')}" if alias else path
