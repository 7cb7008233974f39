"""Where in the user's code something happened: `file:line`, libraries left out."""

import re
import sysconfig
import traceback
from pathlib import Path

import torch

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)
_STDLIB = sysconfig.get_path("stdlib")
_SITE = sysconfig.get_path("purelib")


def user_line(stack_trace: str | None) -> str | None:
    """The innermost user frame of a printed stack."""
    frames = [(name, int(line)) for name, line in _FRAME.findall(stack_trace or "")]
    return _innermost(frames)


def error_line(error: BaseException) -> str | None:
    """The innermost user frame an error passed through, or that its message quotes."""
    seen = traceback.extract_tb(error.__traceback__)
    entry = next((i for i, f in enumerate(seen) if f.filename.startswith(_OURS)), -1)
    called = [(f.filename, f.lineno or 0) for f in seen[entry + 1 :]]
    return _innermost(called) or user_line(str(error))


def _innermost(frames: list[tuple[str, int]]) -> str | None:
    own = [frame for frame in frames if not frame[0].startswith((_TORCH, _OURS, "<"))]
    local = [f for f in own if not f[0].startswith((_STDLIB, _SITE))]
    libraries = [f for f in own if f[0].startswith(_SITE)]  # a model may come from a package
    for found in (local, libraries):
        if found:
            return f"{found[-1][0]}:{found[-1][1]}"
    return None
