"""Artifacts of a few bytes, packed, in a folder that stands for a store."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from contract.function import Function, Manifest


def packed(**files: bytes) -> tuple[str, bytes]:
    """Digest and tar of an artifact with these files; `_` in a name stands for a dot."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return hashlib.sha256(stream.getvalue()).hexdigest(), stream.getvalue()


def artifact(number: int, size_bytes: int = 1000) -> tuple[str, bytes]:
    """One of many artifacts with weights of this size."""
    weights = number.to_bytes(4, "little") * (size_bytes // 4)
    return packed(manifest_json=b"{}", weights_safetensors=weights)


def store(folder: Path, digest: str, tar: bytes) -> Path:
    """Put an artifact into a store that is a folder."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{digest}.tar"
    path.write_bytes(tar)
    return path


def function_of(digest: str, name: str = "f") -> Function:
    """A function whose artifact this is; its manifest is never looked at."""
    return Function(name, 1, digest, 0.0, Manifest.__new__(Manifest))
