"""Folders and URLs that are watched: which may be, what is in them, and what is in a file.

A folder of this machine is read without fsspec, and no link in it is followed: whoever may write
into a watched folder may not read others by it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from contract.errors import InvalidInput, PayloadTooLarge, Unavailable
from gateway.triggers.watching import Found

# in one folder
MAX_FILES = 10_000
# what writers call files that they have not finished
_UNFINISHED = (".part", ".tmp", ".crdownload")
_LOCAL = "file://"
# of a remote listing, the first that is there tells whether a file has changed
_SIGNS = ("ETag", "etag", "md5", "LastModified", "last_modified", "mtime", "created")


class FolderUnreadable(Unavailable):
    """The folder that a trigger watches cannot be read."""

    code = "folder_unreadable"


def check_place(url: str, watched: Sequence[str]) -> str:
    """The folder or URL, if it lies in one that may be watched; raises InvalidInput."""
    field, setting = "watch.url", "FUSEBOX_WATCH"
    wanted = _canonical(url)
    if wanted is None:
        raise InvalidInput.of(field, "an absolute folder or a URL", repr(url[:200]))
    if not any(_is_in(wanted, root) for root in map(_canonical, watched)):
        allowed = ", ".join(watched) or "none"
        expected = f"a place in those that {setting} of the events process names ({allowed})"
        raise InvalidInput.of(field, expected, repr(url[:200]))
    return wanted


def list_files(url: str, pattern: str) -> list[Found]:
    """The files of a folder whose names match; raises FolderUnreadable."""
    try:
        found = _list_local(url) if os.path.isabs(url) else _list_remote(url)
        files = list(islice(found, MAX_FILES + 1))
    except (OSError, ValueError, ImportError) as error:
        raise FolderUnreadable(f"{url}: {str(error)[:300] or type(error).__name__}") from error
    if len(files) > MAX_FILES:
        raise FolderUnreadable(f"{url}: expected at most {MAX_FILES} files, got more")
    return [
        file
        for file in files
        if fnmatchcase(file.name, pattern)
        and not file.name.startswith(".")
        and not file.name.endswith(_UNFINISHED)
    ]


def read_file(url: str, file: Found, max_bytes: int) -> bytes | None:
    """What is in a file; None where it has changed since it was listed, or is gone.

    Raises FolderUnreadable, PayloadTooLarge.
    """
    try:
        read = _read_local if os.path.isabs(url) else _read_remote
        data = read(url, file, max_bytes)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FolderUnreadable(f"{url}/{file.name}: {str(error)[:300]}") from error
    if data is not None and len(data) > max_bytes:
        raise PayloadTooLarge(f"{file.name}: expected at most {max_bytes} bytes, got more")
    return data


def _canonical(url: str) -> str | None:
    """An absolute path without links, or a URL without a way out of it; None for anything else."""
    path = url.removeprefix(_LOCAL)
    if "\0" in url:
        return None
    if os.path.isabs(path):
        return os.path.realpath(path)
    scheme, separator, rest = url.partition("://")
    # `::` chains file systems of fsspec
    is_plain = separator and scheme.isalnum() and not set(rest) & set("?#\\*[]") and "::" not in url
    parts = rest.rstrip("/").split("/")
    return url.rstrip("/") if is_plain and all(p not in ("", ".", "..") for p in parts) else None


def _is_in(wanted: str, root: str | None) -> bool:
    return root is not None and (wanted == root or wanted.startswith(root.rstrip("/") + "/"))


def _list_local(folder: str) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False):
                    yield _found(entry.name, entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue  # it was removed while we looked


def _found(name: str, status: os.stat_result) -> Found:
    signature = f"{status.st_mtime_ns}:{status.st_size}"
    return Found(name, signature, status.st_mtime, status.st_size)


def _read_local(folder: str, file: Found, max_bytes: int) -> bytes | None:
    # O_NONBLOCK: a pipe that took the file's name is not waited for
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(Path(folder) / file.name, flags), "rb") as opened:
        before = os.fstat(opened.fileno())
        if not stat.S_ISREG(before.st_mode):
            return None
        data = opened.read(max_bytes + 1)
        after = os.fstat(opened.fileno())
    return data if _found(file.name, after).signature == file.signature else None


def _remote(url: str) -> tuple[Any, str]:
    # 180 ms, which platforms that watch no URL save
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(url)
    return fs, path


def _list_remote(url: str) -> Iterator[Found]:
    with _as_os_errors():
        fs, path = _remote(url)
        fs.invalidate_cache()
        entries = fs.ls(path, detail=True)
    return (_found_remote(entry) for entry in entries if entry.get("type") == "file")


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Whatever a file system of fsspec raises, which has errors of the libraries that it uses."""
    try:
        yield
    except (OSError, ValueError, ImportError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _found_remote(entry: Mapping[str, Any]) -> Found:
    name = str(entry["name"]).rstrip("/").rpartition("/")[2]
    size = int(entry.get("size") or 0)
    sign = next((entry[key] for key in _SIGNS if entry.get(key)), "")
    return Found(name, f"{str(sign)[:200]}:{size}", _modified_s(entry), size)


def _modified_s(entry: Mapping[str, Any]) -> float:
    """When it was written, Unix seconds; 0 where the listing does not say."""
    for key in ("LastModified", "last_modified", "mtime", "created"):
        value = entry.get(key)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime):
            return value.timestamp()
    return 0.0


def _read_remote(url: str, file: Found, max_bytes: int) -> bytes | None:
    fs, path = _remote(url)
    where = f"{path.rstrip('/')}/{file.name}"
    with _as_os_errors():
        with fs.open(where, "rb") as opened:
            data: bytes = opened.read(max_bytes + 1)
        fs.invalidate_cache()
        # one that is larger than may be is cut short, and refused by its length
        return data if fs.info(where).get("size") in (file.size, None) else None
