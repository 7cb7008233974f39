"""What those do who run the platform: API keys, aliases, triggers and so on, by their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from deploy.client.answers import Record
from deploy.client.request import PATIENCE_S, function_path

PAGE = "1000"
CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"


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

    def load(self, name: str, wait_s: float | None = None) -> Record:
        """Bring a function's weights into every worker and keep them; how far that is by then."""
        return self._place(name, "load", wait_s)

    def unload(self, name: str, wait_s: float | None = None) -> Record:
        """Take a function's weights out of every worker; the next call brings them back."""
        return self._place(name, "unload", wait_s)

    def create_trigger(self, wanted: Record) -> Record:
        """Make a trigger, as docs/events.md says what may be wanted."""
        return self._request("POST", "/v1/triggers", json=wanted)

    def triggers(self) -> list[Record]:
        """Every trigger, by name."""
        found: list[Record] = []
        params = {"count": PAGE}
        while True:
            page = self._request("GET", "/v1/triggers", params=params)
            found += page["triggers"]
            if page["next"] is None:
                return found
            params["after"] = page["next"]

    def trigger(self, name: str) -> Record:
        """One trigger, and how it fares."""
        return self._request("GET", _trigger(name))

    def remove_trigger(self, name: str) -> Record:
        """Remove a trigger and its place."""
        return self._request("DELETE", _trigger(name))

    def pause_trigger(self, name: str) -> Record:
        """Pause a trigger."""
        return self._request("POST", f"{_trigger(name)}/pause")

    def resume_trigger(self, name: str) -> Record:
        """Resume a trigger; one that fails tries at once."""
        return self._request("POST", f"{_trigger(name)}/resume")

    def test_trigger(self, name: str, event: Record | None) -> Record:
        """What the function would get for a CloudEvent; of a cron trigger also for its tick."""
        path = f"{_trigger(name)}/test"
        return self._request("POST", path, json=event, content_type=CLOUD_EVENT)

    def send_events(self, events: Sequence[Record]) -> Record:
        """Send CloudEvents; accepted when each is a job of every trigger that it is for."""
        return self._request("POST", "/v1/events", json=list(events), content_type=CLOUD_EVENTS)

    def dead_letters(self, count: int = 100) -> Record:
        """The newest dead letters, and how many there are."""
        return self._request("GET", "/v1/dead-letters", params={"count": str(count)})

    def dead_letter(self, letter_id: str) -> Record:
        """One dead letter with its payload."""
        return self._request("GET", _letter(letter_id))

    def redrive(self, letter_id: str) -> Record:
        """Run a job again, or try a delivery anew; `job` of the answer is the job."""
        return self._request("POST", f"{_letter(letter_id)}/redrive")

    def purge(self, letter_id: str | None = None) -> Record:
        """Remove one dead letter, or all; `purged` of the answer says how many."""
        return self._request("DELETE", _letter(letter_id) if letter_id else "/v1/dead-letters")

    def webhook_secrets(self, is_rotated: bool = False) -> Record:
        """What webhooks are signed with, the newest first; made anew where that is wished."""
        if is_rotated:
            return self._request("POST", "/v1/webhooks/secret/rotate")
        return self._request("GET", "/v1/webhooks/secret")

    def _place(self, name: str, verb: str, wait_s: float | None) -> Record:
        params = {} if wait_s is None else {"wait": f"{wait_s:g}"}
        path = f"{function_path(name)}/{verb}"
        return self._request("POST", path, params=params, wait_s=PATIENCE_S)


def _trigger(name: str) -> str:
    return f"/v1/triggers/{quote(name, safe='')}"


def _letter(letter_id: str) -> str:
    return f"/v1/dead-letters/{quote(letter_id, safe='')}"


def _alias(name: str, alias: str = "") -> str:
    path = f"{function_path(name)}/aliases"
    return f"{path}/{quote(alias, safe='')}" if alias else path
