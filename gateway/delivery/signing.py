"""Signatures of webhooks: https://www.standardwebhooks.com, version 1, with HMAC."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from contract.errors import RequestError
from contract.settings import Settings
from contract.store import Store

PREFIX = "whsec_"
SECRET_BYTES = 32
# After a rotation, what is sent carries signatures by both secrets for this long.
OVERLAP_S = 86_400.0


def new_secret() -> str:
    """A secret that nobody can guess."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign(secret: str, message_id: str, at_s: int, body: bytes) -> str:
    """`v1,<base64>` of one secret; `at_s` is Unix seconds."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = b".".join((message_id.encode(), str(at_s).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers_of(valid: Sequence[str], message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers of a message, signed by every secret that is valid."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(sign(key, message_id, at_s, body) for key in valid),
    }


def valid_secrets(settings: Settings, store: Store, now_s: float) -> list[str]:
    """The secrets in use, the newest first; one is made where there is none."""
    if settings.webhook_secret:
        return [settings.webhook_secret]
    found = store.deliveries.secrets(new_secret())
    return [found.now, *([found.last] if found.last and found.last_until_s > now_s else [])]


def rotate(settings: Settings, store: Store, now_s: float) -> None:
    """Make a new secret; the one before stays valid for OVERLAP_S. Raises RequestError."""
    if settings.webhook_secret:
        raise RequestError("The secret is that of FUSEBOX_WEBHOOK_SECRET; change it there.")
    store.deliveries.rotate(new_secret(), now_s + OVERLAP_S)
