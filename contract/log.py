"""Logs are `event key=value`; what is bound with `bound` stands in every line below it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_bound: ContextVar[dict[str, Any]] = ContextVar("bound", default={})  # noqa: B039  # never mutated


def _value(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return repr(text) if not text or any(c.isspace() or c in "=\"'" for c in text) else text


class Log:
    """A named logger whose methods take an event and its fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"fusebox.{name}")

    def _emit(self, level: int, event: str, exc_info: bool, pairs: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            words = [f"{key}={_value(value)}" for key, value in (_bound.get() | pairs).items()]
            self._logger.log(level, " ".join([event, *words]), exc_info=exc_info)

    def debug(self, event: str, **pairs: Any) -> None:
        """Detail for somebody who looks for a fault."""
        self._emit(logging.DEBUG, event, False, pairs)

    def info(self, event: str, **pairs: Any) -> None:
        """Something that operators expect to see."""
        self._emit(logging.INFO, event, False, pairs)

    def warning(self, event: str, **pairs: Any) -> None:
        """Something that operators should know."""
        self._emit(logging.WARNING, event, False, pairs)

    def exception(self, event: str, **pairs: Any) -> None:
        """A fault, with the traceback of the exception being handled."""
        self._emit(logging.ERROR, event, True, pairs)


@contextmanager
def bound(**pairs: Any) -> Iterator[None]:
    """Put `pairs` into every line logged inside."""
    token = _bound.set(_bound.get() | pairs)
    try:
        yield
    finally:
        _bound.reset(token)


def configure(level: str) -> None:
    """Send the platform's lines to standard error; called once, in entry points."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger("fusebox")
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(level.upper())
