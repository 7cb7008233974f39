"""`X-Callback-Url`: who hears of the end of an asynchronous call."""

from __future__ import annotations

from urllib.parse import urlsplit

from contract.errors import RequestError

FORMAT = "openfaas"
_MAX_CHARS = 2000


def callback_of(url: str) -> tuple[str, ...]:
    """The destination of a callback URL, none for ""; raises RequestError."""
    if not url:
        return ()
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url or len(url) > _MAX_CHARS:
        raise RequestError(f"X-Callback-Url: expected an http or https URL, got {url[:100]!r}")
    return (f"{FORMAT}+{url}",)
