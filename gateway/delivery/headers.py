"""Destinations of one call, as its request names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.destinations import Destination, Kind, parse_all
from contract.errors import InvalidInput
from contract.origin import NOWHERE, Origin

ON_SUCCESS, ON_FAILURE = "Fusebox-On-Success", "Fusebox-On-Failure"
_KEPT = Origin(is_kept=True)


def origin_of(environ: Mapping[str, Any], is_kept: bool = False) -> Origin:
    """The origin of a call by its headers; raises InvalidInput naming the header."""
    success, failure = (
        environ.get("HTTP_FUSEBOX_ON_SUCCESS"),
        environ.get("HTTP_FUSEBOX_ON_FAILURE"),
    )
    if success is None and failure is None:
        return _KEPT if is_kept else NOWHERE
    return Origin(
        on_success=_texts(success, ON_SUCCESS),
        on_failure=_texts(failure, ON_FAILURE),
        is_kept=is_kept,
    )


def _texts(header: str | None, name: str) -> tuple[str, ...]:
    """Destinations of a header: separated by commas, as repeated headers arrive."""
    words = [word for part in (header or "").split(",") if (word := part.strip())]
    return tuple(checked(found, name).text for found in parse_all(words, name))


def checked(destination: Destination, field: str) -> Destination:
    """The destination, if its format is known; raises InvalidInput naming the field."""
    # formats make events, which invocations without destinations never need
    from gateway.delivery.formats import FORMATS

    if destination.kind is Kind.WEBHOOK and destination.format not in FORMATS:
        expected = f"a format of {', '.join(sorted(FORMATS))}"
        raise InvalidInput.of(field, expected, repr(destination.format))
    return destination
