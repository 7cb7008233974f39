"""Errors of the command line, and the exit codes that scripts can use."""

from __future__ import annotations

from contract.errors import (
    DeadlineExceeded,
    DeadlineUnmeetable,
    Forbidden,
    FuseboxError,
    NotFound,
    QueueFull,
    RateLimited,
    RequestError,
    Unauthorized,
    Unavailable,
    WaitTooLong,
)

OK, FAILED, USAGE, NOT_FOUND, UNREACHABLE, TOO_LATE, REFUSED = range(7)
INTERRUPTED = 130

_EXIT_CODES: tuple[tuple[type[FuseboxError], int], ...] = (
    (NotFound, NOT_FOUND),
    (RequestError, USAGE),
    # before the class it belongs to
    (DeadlineUnmeetable, TOO_LATE),
    (Unavailable, UNREACHABLE),
    (QueueFull, UNREACHABLE),
    (RateLimited, UNREACHABLE),
    (WaitTooLong, UNREACHABLE),
    (Unauthorized, REFUSED),
    (Forbidden, REFUSED),
    (DeadlineExceeded, TOO_LATE),
)


class Unreachable(Unavailable):
    """No gateway answers at this URL."""

    code = "unreachable"


class WaitTimeout(DeadlineExceeded):
    """The job had no result within the time the caller waited."""

    code = "wait_timeout"


class PackagingError(FuseboxError):
    """The model cannot be deployed as it is."""

    code, http_status = "packaging_failed", 422


class NotExportable(PackagingError):
    """The model runs, but cannot become a graph."""

    code = "not_exportable"


class Undrawable(FuseboxError):
    """What the platform says of a function cannot be drawn."""

    code, http_status = "undrawable", 422


def exit_code(error: FuseboxError) -> int:
    """What a process ends with that met this error."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)
