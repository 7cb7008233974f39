"""What a program or its environment says: where the gateway is, and who calls."""

from __future__ import annotations

import os

from contract.errors import MalformedBody
from deploy.client.request import check_url
from deploy.client.retries import Retries
from deploy.options import API_KEY_VARIABLE, DEFAULT_URL, URL_VARIABLE

USER_AGENT = "fusebox-python"


def gateway_url(url: str | None) -> str:
    """The URL given, that of FUSEBOX_URL, or the default; raises MalformedBody."""
    return check_url(os.environ.get(URL_VARIABLE, DEFAULT_URL) if url is None else url)


def headers_of(api_key: str | None) -> dict[str, str]:
    """The header fields of every request; raises MalformedBody, which does not show the key."""
    key = os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key
    headers = {"User-Agent": USER_AGENT}
    if not key:
        return headers
    if not key.isascii() or not key.isprintable():
        raise MalformedBody(f"{API_KEY_VARIABLE}: expected an API key, fb_<id>_<secret>")
    return headers | {"Authorization": f"Bearer {key}"}


def fresh_key(retries: Retries) -> str | None:
    """An idempotency key for one call; None where nothing is sent twice, as keys cost a little."""
    return os.urandom(16).hex() if retries.attempts > 1 else None
