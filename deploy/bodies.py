"""The body of an invocation, from what was given on the command line."""

from __future__ import annotations

import io
import json
import mimetypes
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import click

from deploy.client import Body

JSON, NPZ = "application/json", "application/x-npz"
_TYPES = {
    ".json": JSON,
    ".npy": "application/x-npy",
    ".npz": NPZ,
    ".msgpack": "application/msgpack",
}
STDIN = "-"


def read_body(data: str | None, file: str | None, inputs: Sequence[str], media: str | None) -> Body:
    """The body of exactly one of --data, --file and --input; raises UsageError."""
    given = (data is not None) + (file is not None) + bool(inputs)
    if given != 1:
        raise click.UsageError("give one of --data, --file and --input")
    if data is not None:
        return Body(media or JSON, _checked_json(data))
    if file is not None:
        return _from_file(file, media)
    return Body(media or NPZ, _npz(inputs))


def _checked_json(text: str) -> bytes:
    try:
        json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--data") from error
    return text.encode()


def _from_file(file: str, media: str | None) -> Body:
    if file == STDIN:
        return Body(media or JSON, sys.stdin.buffer.read())
    suffix = Path(file).suffix.lower()
    guessed = _TYPES.get(suffix) or mimetypes.guess_type(file)[0] or "application/octet-stream"
    return Body(media or guessed, _read(file, "--file"))


def _npz(inputs: Sequence[str]) -> bytes:
    """A .npz of .npy files: a zip archive, stored; NumPy itself is not needed for it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        for given in inputs:
            name, equals, path = given.partition("=")
            if not name or not equals:
                raise click.BadParameter(f"{given!r} is not name=x.npy", param_hint="--input")
            if f"{name}.npy" in members.namelist():
                raise click.BadParameter(f"{name!r} is given twice", param_hint="--input")
            members.writestr(f"{name}.npy", _read(path, "--input"))
    return archive.getvalue()


def _read(path: str, option: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint=option) from error
