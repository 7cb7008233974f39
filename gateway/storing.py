"""Artifacts copied to a store of their own, and removed from it, by a process of its own.

`python -m gateway.storing put FOLDER DIGEST` or `remove DIGEST...`, the URL in FUSEBOX_ARTIFACTS.
The clients behind fsspec run event loops, which a process patched by gevent cannot have.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from contract.artifacts import ARTIFACTS, key_of
from contract.errors import ArtifactUnavailable
from contract.log import Log
from gateway.packed import open_packed

log = Log("storing")
# A store that is slower than this, or does not answer for so long, is taken for broken.
BYTES_PER_S = 5 * 10**6
ANSWER_S = 60.0


class Storing:
    """The store at this URL."""

    def __init__(self, url: str, artifacts: Path) -> None:
        self._url = url
        self._artifacts = artifacts.resolve()

    def put(self, digest: str) -> None:
        """Copy an artifact there, whole or not at all; raises ArtifactUnavailable."""
        size_bytes = open_packed(self._artifacts, digest).size_bytes
        problem = self._ask(["put", str(self._artifacts), digest], size_bytes)
        if problem:
            log.warning("artifact_not_stored", digest=digest, reason=problem)
            raise ArtifactUnavailable(
                "The artifact could not be stored where workers fetch it; nothing was deployed."
            )

    def remove(self, digests: Sequence[str]) -> None:
        """Remove artifacts there; what cannot be removed is a leak, and said in the log."""
        problem = self._ask(["remove", *digests], 0) if digests else ""
        if problem:
            log.warning("artifacts_not_removed", digests=len(digests), reason=problem)

    def _ask(self, words: Sequence[str], size_bytes: int) -> str:
        """What went wrong, or nothing."""
        command = [sys.executable, "-m", "gateway.storing", *words]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                env=os.environ | {ARTIFACTS: self._url},
                timeout=ANSWER_S + size_bytes / BYTES_PER_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return f"not within {error.timeout:.0f} s"
        if done.returncode == 0:
            return ""
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {done.returncode}"


def put(url: str, artifacts: Path, digest: str) -> None:
    """Copy one artifact; it appears when it is whole."""
    fs, base = _open(url)
    packed = open_packed(artifacts, digest)
    path = key_of(base, digest)
    if fs.exists(path) and fs.size(path) == packed.size_bytes:
        return
    fs.makedirs(base, exist_ok=True)
    file = fs.open(path, "wb", autocommit=False)
    try:
        for data in packed.read(0, packed.size_bytes):
            file.write(data)
        file.close()
    except BaseException:
        file.discard()
        raise
    file.commit()


def remove(url: str, digests: Iterable[str]) -> None:
    """Remove those that are there."""
    fs, base = _open(url)
    for digest in digests:
        if fs.exists(key_of(base, digest)):
            fs.rm_file(key_of(base, digest))


def _open(url: str) -> tuple[Any, str]:
    import fsspec  # in this process alone

    fs, base = fsspec.core.url_to_fs(url)
    return fs, str(base)


def main(words: Sequence[str]) -> None:
    """What the command line says."""
    url = os.environ[ARTIFACTS]
    if words[0] == "put":
        put(url, Path(words[1]), words[2])
    else:
        remove(url, words[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
