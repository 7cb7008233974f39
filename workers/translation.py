"""Errors of fusion, torch and the operating system in the platform's words: the one place."""

from __future__ import annotations

from contract.errors import FunctionFailed, FuseboxError, OutOfMemory
from fusion.allocation import is_out_of_memory
from fusion.errors import BudgetExceeded, GraphError, IntegrityError, MemberError, WeightsError

REASON_CHARS = 300


def translate(error: BaseException) -> FuseboxError:
    """The platform's error for what stopped one job; unknown ones are `internal`.

    The log has the original with its traceback: paths and internals stay there.
    """
    if isinstance(error, FuseboxError):
        return error
    if isinstance(error, MemberError) and error.__cause__ is not None:
        return translate(error.__cause__)
    if isinstance(error, BudgetExceeded):
        return OutOfMemory(
            f"{error.needed_bytes:,} bytes are needed, the budget has {error.budget_bytes:,} bytes",
            needed_bytes=error.needed_bytes,
            budget_bytes=error.budget_bytes,
        )
    if is_out_of_memory(error):
        return OutOfMemory("The device ran out of memory while the function was computed.")
    if isinstance(error, GraphError | WeightsError | OSError):
        return FunctionFailed("The version's artifact is damaged or missing; deploy it again.")
    if isinstance(error, IntegrityError):
        return FunctionFailed("The function returned another number of rows than it was given.")
    if isinstance(error, MemberError | RuntimeError | ValueError | TypeError | IndexError):
        return FunctionFailed(f"The function's graph failed: {_first_line(error)}")
    return FuseboxError()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:REASON_CHARS] if lines else type(error).__name__
