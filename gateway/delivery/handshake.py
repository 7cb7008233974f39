"""The handshake of CloudEvents webhooks: a receiver says whether, and how often, it is told.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.delivery.retry import Attempt

# A receiver is asked again after this.
VALID_S = 3600.0
MAX_KNOWN = 10_000


@dataclass
class _Permission:
    until_s: float
    # between two deliveries
    interval_s: float
    next_at_s: float = 0.0


class Handshakes:
    """What receivers have said, as this process remembers it. Times are monotonic seconds."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._known: dict[str, _Permission] = {}

    def headers(self) -> dict[str, str]:
        """What a receiver is asked with."""
        return {"WebHook-Request-Origin": self._origin}

    def is_known(self, target: str, now_s: float) -> bool:
        """Whether this receiver has given its permission of late."""
        permission = self._known.get(target)
        return permission is not None and now_s < permission.until_s

    def note(
        self, target: str, status: int, headers: Mapping[str, str], now_s: float
    ) -> Attempt | None:
        """What an answer means; the failed attempt where it is no permission."""
        if not 200 <= status < 300:
            return Attempt(status, f"the handshake was answered {status}")
        allowed = headers.get("WebHook-Allowed-Origin", "")
        if allowed != "*" and allowed.lower() != self._origin.lower():
            return Attempt(
                error=f"the handshake does not allow the origin {self._origin}", is_lasting=True
            )
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        interval_s = _interval_s(headers.get("WebHook-Allowed-Rate", "*"))
        # several deliveries may ask at once: their turns are counted together
        known = self._known.get(target)
        next_at_s = now_s if known is None else known.next_at_s
        self._known[target] = _Permission(now_s + VALID_S, interval_s, next_at_s)
        return None

    def turn(self, target: str, now_s: float) -> Attempt | None:
        """None where this delivery may go now; one that is put off where it has to wait."""
        permission = self._known[target]
        if permission.next_at_s > now_s:
            return Attempt(retry_after_s=permission.next_at_s - now_s, is_put_off=True)
        permission.next_at_s = now_s + permission.interval_s
        return None


def _interval_s(rate: str) -> float:
    """Seconds between two deliveries, from deliveries a minute."""
    text = rate.strip()
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text)):
        return 0.0
    return 60.0 / int(text)
