"""From an event to a function's input, by a JMESPath expression with a budget.

An expression of some hundred characters can double a list a hundred times, so what it makes is
counted while it is made.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jmespath
import orjson
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter

from contract.errors import InvalidInput, PayloadTooLarge
from gateway.triggers.event import Event

MAX_EXPRESSION_CHARS = 1_024
# values that one evaluation may make or walk through
MAX_STEPS = 2_000_000
_FIELD = "input"
# nodes whose values are new; the others hand on what is there
_MAKERS = frozenset(
    {
        "filter_projection", "flatten", "function_expression", "multi_select_dict",
        "multi_select_list", "projection", "slice", "value_projection",
    }
)  # fmt: skip


def check_expression(text: str) -> None:
    """Raise InvalidInput unless this is an expression."""
    if len(text) > MAX_EXPRESSION_CHARS:
        expected = f"at most {MAX_EXPRESSION_CHARS} characters"
        raise InvalidInput.of(_FIELD, expected, str(len(text)))
    _compile(text)


def map_event(text: str, event: Event, max_bytes: int) -> bytes:
    """JSON of what the expression makes of an event; raises InvalidInput, PayloadTooLarge."""
    expression = _compile(text)
    record = event.record()
    interpreter = _Counting(max_bytes)
    try:
        found = interpreter.visit(expression, record)
        if found is None:
            raise InvalidInput.of(_FIELD, f"a value from {text[:200]!r}", "null")
        body = interpreter.write(found)
    except (JMESPathError, RecursionError) as error:
        actual = f"an error ({str(error)[:300]})"
        raise InvalidInput.of(_FIELD, f"a value from {text[:200]!r}", actual) from error
    # JMESPath's functions meet values that are not of their types
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
        actual = f"an error ({str(error)[:300]})"
        raise InvalidInput.of(_FIELD, f"JSON from {text[:200]!r}", actual) from error
    return body


@lru_cache(maxsize=1024)
def _compile(text: str) -> Any:
    try:
        return jmespath.compile(text).parsed
    except (JMESPathError, RecursionError) as error:
        actual = f"{text[:200]!r} ({str(error)[:300]})"
        raise InvalidInput.of(_FIELD, "a JMESPath expression", actual) from error


class _Counting(TreeInterpreter):  # type: ignore[misc]  # jmespath is untyped
    """jmespath's interpreter, which stops where an expression makes more than its budget."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._steps, self._bytes = MAX_STEPS, max_bytes

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate a node, and count what it makes."""
        found = super().visit(node, *args, **kwargs)
        self._spend(found if node["type"] in _MAKERS else None)
        return found

    def write(self, found: Any) -> bytes:
        """JSON, after everything in it has been counted: one value may be in it often."""
        left = [found]
        while left:
            value = left.pop()
            self._spend(value)
            if isinstance(value, dict):
                left.extend(value)
                left.extend(value.values())
            elif isinstance(value, list):
                left.extend(value)
        return orjson.dumps(found)

    def _spend(self, value: Any) -> None:
        self._steps -= 1
        if isinstance(value, str):
            self._bytes -= len(value)
        elif isinstance(value, list | dict):
            self._steps -= len(value)
        if self._steps < 0 or self._bytes < 0:
            limits = f"{MAX_STEPS} values or {self._max_bytes} bytes"
            raise PayloadTooLarge(f"input: the expression makes more than {limits}")
