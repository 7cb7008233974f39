"""The user's Python, run on the user's side: a handler, or an exported program."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from deploy.errors import PackagingError

HANDLER = "handler.py"
HOOKS = ("preprocess", "postprocess")


@dataclass(frozen=True)
class Source:
    """The file that a function is made of."""

    path: Path
    default_name: str

    @property
    def is_program(self) -> bool:
        """Whether it is an exported program and no Python."""
        return self.path.suffix == ".pt2"


@dataclass(frozen=True)
class UserCode:
    """A handler that has been imported; nothing of it has been called."""

    module: ModuleType
    path: Path
    # names of the modules that were there before it
    before: frozenset[str] = frozenset()

    @property
    def hooks(self) -> frozenset[str]:
        """Which of preprocess and postprocess it defines."""
        return frozenset(hook for hook in HOOKS if callable(getattr(self.module, hook, None)))

    def call(self, name: str) -> Any:
        """Call one of its functions without arguments; raises PackagingError with the line."""
        function = getattr(self.module, name)
        with blamed(self.path, f"{name}() failed"):
            return function()

    def require(self, name: str, purpose: str) -> None:
        """Raise PackagingError unless this function exists."""
        if not callable(getattr(self.module, name, None)):
            raise PackagingError(f"{self.path}: no function {name}(). Define it: {purpose}")

    def line_of(self, name: str) -> str:
        """`file:line` where a function is defined, for a message."""
        try:
            line = inspect.getsourcelines(getattr(self.module, name))[1]
        except (OSError, TypeError):
            return str(self.path)  # made by a decorator, or a class with __call__
        return f"{self.path}:{line}"


def find_source(given: Path) -> Source:
    """The file that PATH means; raises PackagingError."""
    path = given.resolve()
    if path.is_dir():
        path = path / HANDLER
        if not path.is_file():
            raise PackagingError(f"{given}: the folder holds no {HANDLER}")
    elif not path.exists():
        raise PackagingError(f"{given}: no such file or folder")
    elif path.suffix not in (".py", ".pt2"):
        raise PackagingError(
            f"{given}: expected a folder with a {HANDLER}, a .py file or a .pt2 program"
        )
    return Source(path, _name_of(path))


@contextmanager
def imported(path: Path) -> Iterator[UserCode]:
    """Import a handler with its folder on sys.path, and forget its folder's modules afterwards.

    Two handlers may each have a `model.py`; what they import while inside stays their own.
    """
    folder = str(path.parent)
    before = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        yield UserCode(_import(path), path, frozenset(before))
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            if _is_in(sys.modules[name], path.parent):
                del sys.modules[name]


@contextmanager
def blamed(path: Path, what: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a PackagingError that names the user's line."""
    try:
        yield
    except PackagingError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        problem = f"{type(error).__name__}: {error}".strip().removesuffix(":")
        raise PackagingError(f"{_line_in(error, path)}: {what}: {problem}") from error


def neighbours(code: UserCode) -> list[Path]:
    """Files of modules that it has imported so far from its folder, itself left out."""
    own = [
        module
        for name, module in list(sys.modules.items())
        if name not in code.before and _is_in(module, code.path.parent)
    ]
    return sorted({Path(str(module.__file__)) for module in own} - {code.path})


def _import(path: Path) -> ModuleType:
    name = re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a .py file always has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look modules up by name
    with blamed(path, "cannot be imported"):
        spec.loader.exec_module(module)
    return module


def _is_in(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    # an environment may live inside the folder: what is installed stays
    return file is not None and folder in Path(file).parents and "site-packages" not in file


def _line_in(error: BaseException, path: Path) -> str:
    """The innermost line of the user's own files that an error passed through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if path.parent in Path(frame.filename).parents and "site-packages" not in frame.filename
    ]
    return frames[-1] if frames else str(path)


def _name_of(path: Path) -> str:
    """A function's name made of a file's or a folder's: `My_Model.pt2` is `my-model`."""
    stem = path.parent.name if path.name == HANDLER else path.stem
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63].strip("-")
