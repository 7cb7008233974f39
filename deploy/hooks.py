"""What of a function's own code travels: its handler, and the files it brings along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contract.function import HANDLER, INCLUDED
from deploy.errors import PackagingError
from deploy.user_code import UserCode, blamed, neighbours

_CACHE = "__pycache__"


@dataclass(frozen=True)
class Hooks:
    """Which hooks there are, and the artifact's members for them, by name."""

    names: frozenset[str] = frozenset()
    members: tuple[tuple[str, Path], ...] = ()


def find_hooks(code: UserCode, include: tuple[Path, ...]) -> Hooks:
    """The hooks; raises PackagingError.

    To be called before load(): until then only what the hooks import has been imported.
    """
    if not code.hooks:
        return Hooks()
    imports = neighbours(code)
    members = {HANDLER: code.path} | included(_brought(code, include))
    travelling = set(members.values())
    for module in imports:
        if module not in travelling:
            raise PackagingError(
                f"{code.path}: imports {module.name} at its top level, which is not there on the "
                "platform. Import it inside load(), or bring it along with files()"
            )
    return Hooks(code.hooks, tuple(members.items()))


def unread_files(code: UserCode, include: tuple[Path, ...]) -> tuple[str, ...]:
    """Notes on files that a graph without hooks has no use for; PackagingError for --include."""
    if code.hooks:
        return ()
    if include:
        raise PackagingError(f"--include: {code.path.name} has no hooks that could read files")
    note = "files() is not used: the handler has neither preprocess nor postprocess"
    return (note,) if _brings_files(code) else ()


def source_files(code: UserCode, include: tuple[Path, ...]) -> dict[str, Path]:
    """What it takes to make the model anew, by member name; raises PackagingError.

    To be called after load() and forward: what they import from the handler's folder travels.
    """
    members = {HANDLER: code.path} | included(_brought(code, include))
    for module in neighbours(code):
        name = f"{INCLUDED}{module.relative_to(code.path.parent).as_posix()}"
        if members.setdefault(name, module) != module:
            raise PackagingError(f"{module}: another file named {name} is brought along")
    return members


def _brings_files(code: UserCode) -> bool:
    return callable(getattr(code.module, "files", None))


def _brought(code: UserCode, include: tuple[Path, ...]) -> list[Path]:
    found = code.call("files") if _brings_files(code) else []
    with blamed(code.path, "files() must return a list of paths"):
        return [*(code.path.parent / Path(item) for item in found), *include]


def included(paths: list[Path]) -> dict[str, Path]:
    """Member names of files and of whole folders; raises PackagingError."""
    members: dict[str, Path] = {}
    for path in paths:
        for name, file in _files_under(path):
            member = f"{INCLUDED}{name}"
            if name in (HANDLER, "") or members.get(member, file) != file:
                raise PackagingError(f"{path}: a second file named {name} cannot be brought along")
            members[member] = file
    return members


def _files_under(path: Path) -> Iterator[tuple[str, Path]]:
    path = path.resolve()
    if path.is_file():
        yield path.name, path
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and _CACHE not in file.parts:
                yield str(Path(path.name) / file.relative_to(path)), file
    else:
        raise PackagingError(f"{path}: no such file or folder to bring along")
