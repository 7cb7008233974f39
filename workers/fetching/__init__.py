"""Artifacts that are brought from another machine before they are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection

from contract.settings import Settings
from workers.fetching.artifacts import Fetching
from workers.fetching.remote import Remote
from workers.fetching.shelf import Shelf


def open_fetching(settings: Settings, in_use: Callable[[], Collection[str]]) -> Fetching | None:
    """What fetches artifacts, where FUSEBOX_ARTIFACTS says from where."""
    if not settings.artifacts_url:
        return None
    artifacts = settings.artifacts.resolve()
    shelf = Shelf(artifacts, artifacts.with_name("fetched"), settings.artifact_cache_bytes)
    remote = Remote(settings.artifacts_url, settings.artifacts_key)
    # no longer than hooks may take: a worker that waits longer for a group counts as stuck
    return Fetching(shelf, remote, settings.handler_timeout_s, in_use)
