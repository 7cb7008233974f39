"""Numbers of a query string."""

from __future__ import annotations

from contract.errors import InvalidInput


def query_number(name: str, text: str, low: float, high: float) -> float:
    """The number, from `low` to `high`; raises InvalidInput naming it."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    # NaN fails the comparison
    if not low <= number <= high:
        raise InvalidInput.of(name, f"a number from {low:g} to {high:g}", repr(text[:100]))
    return number
