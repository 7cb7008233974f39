"""The artifact store: one folder per digest, placed whole or not at all.

`artifacts/<digest>/` holds the members of an artifact; `artifacts/.incoming/<digest>.<token>/` is
an upload under way, and stands until its version is published. Several gateway processes share it
without locks: a sweep leaves alone what is arriving, and puts back what arrived meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import orjson
from safetensors import SafetensorError, safe_open

from contract.errors import (
    DigestMismatch,
    FunctionFailed,
    InvalidArtifact,
    NotFound,
    PayloadTooLarge,
    RequestError,
    StorageFull,
)
from contract.function import GRAPH, HANDLER, INCLUDED, MANIFEST, WEIGHTS, Function, Manifest
from contract.log import Log
from contract.pieces import write_in_pieces
from gateway.artifact_check import read_manifest
from gateway.packed import Recorder
from gateway.shared_weights import SharedWeights
from gateway.storing import Storing
from gateway.tar import Member, Read, TarError, members

log = Log("artifacts")
MAX_MEMBERS = 1_000
MAX_NAME_CHARS = 200
# Each may take a processor and two gigabytes for a hostile artifact.
READERS = 2
# What a crashed gateway left behind is an upload no longer than this.
ABANDONED_S = 24 * 3600.0
_INCOMING = ".incoming"
# in the metadata of a weights file, before the name of a tensor: the hash of its bytes
_DIGEST_KEY = "sha256."
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# of one row bucket; the manifest says of which
_BUCKET_GRAPH = re.compile(r"graph\.[1-9][0-9]{0,4}\.json")
_DIGEST_FIELD = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):\s*(?:$|,)")


def parse_content_digest(header: str) -> str:
    """The hexadecimal sha-256 of a `Content-Digest` (RFC 9530); raises RequestError."""
    found = _DIGEST_FIELD.search(header)
    try:
        digest = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise RequestError("Content-Digest: expected sha-256=:<base64 of 32 bytes>:")
    return digest.hex()


class _Upload:
    """A body that is counted and hashed as it is read."""

    def __init__(self, read: Read, max_bytes: int) -> None:
        self._read = read
        self._left_bytes = self._max_bytes = max_bytes
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise PayloadTooLarge(f"An artifact may hold {self._max_bytes} bytes.")
        self._hash.update(data)
        # Bytes that are there already are read without waiting: let other requests have their turn.
        time.sleep(0)
        return data

    def finish(self, read: Read) -> str:
        """The digest of all of it, padding after the last member included.

        `read` is its own, or what passes it on.
        """
        while read(2**20):
            pass
        return self._hash.hexdigest()


def _anything(_folder: Path, _manifest: Manifest) -> None:
    """Every artifact is accepted."""


class Artifacts:
    """The artifacts under one folder."""

    def __init__(self, folder: Path, max_bytes: int, storing: Storing | None = None) -> None:
        self._folder = folder
        self._storing = storing
        self._max_bytes = max_bytes
        self._readers = BoundedSemaphore(READERS)
        self._shared = SharedWeights(folder)

    @contextmanager
    def receive(
        self, read: Read, digest: str, accept: Callable[[Path, Manifest], None] = _anything
    ) -> Iterator[Manifest]:
        """Unpack, check and place an upload; publish it inside, so that no sweep takes it.

        `accept` may refuse what is unpacked, before it is placed. Raises DigestMismatch,
        InvalidArtifact, PayloadTooLarge, StorageFull, ArtifactUnavailable.
        """
        incoming = self._folder / _INCOMING / f"{digest}.{secrets.token_hex(8)}"
        try:
            with _room_needed():
                manifest = self._take_in(read, digest, incoming / "unpacked", accept)
            if self._storing is not None:
                self._storing.put(digest)
            yield manifest
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _take_in(
        self, read: Read, digest: str, unpacked: Path, accept: Callable[[Path, Manifest], None]
    ) -> Manifest:
        unpacked.mkdir(parents=True)
        upload = _Upload(read, self._max_bytes)
        try:
            recorder = Recorder(upload.read)
            _unpack(recorder, unpacked)
            actual = upload.finish(recorder.read)
        except TarError as error:
            raise InvalidArtifact(f"artifact: {error}") from error
        if actual != digest:
            raise DigestMismatch(expected=digest, actual=actual)
        recorder.write(unpacked)
        with self._readers:
            manifest = read_manifest(unpacked)
            accept(unpacked, manifest)
            self._shared.share(unpacked / WEIGHTS)
        self._place(unpacked, digest)
        return manifest

    def read_graph(self, function: Function) -> tuple[dict[str, Any], dict[str, str]]:
        """`graph.json`, and by weight the sha-256 of its bytes; raises FunctionFailed and NotFound.

        Of static graphs it is that of the smallest row bucket.
        """
        if function.manifest.is_eager:
            raise NotFound(f"{function.ref} runs eagerly: it has no graph and is in no fused DAG")
        folder = self._folder / function.digest
        try:
            graph = orjson.loads((folder / GRAPH).read_bytes())
            with safe_open(folder / WEIGHTS, framework="numpy") as file:
                metadata = file.metadata() or {}
        except (OSError, ValueError, SafetensorError) as error:
            log.warning("artifact_not_read", function=function.ref, reason=error)
            raise FunctionFailed(f"{function.ref}: its artifact cannot be read") from error
        return graph, {
            key.removeprefix(_DIGEST_KEY): digest
            for key, digest in metadata.items()
            if key.startswith(_DIGEST_KEY)
        }

    def sweep(self, needed: Callable[[], set[str]]) -> list[str]:
        """Remove every artifact that nothing needs and nobody is uploading; their digests."""
        if not self._folder.is_dir():
            return []
        stored = {path.name for path in self._folder.iterdir() if path.name != _INCOMING}
        removed = []
        for digest in stored - needed() - self._arriving():
            grave = self._folder / _INCOMING / f"removed.{secrets.token_hex(8)}"
            if not _moved(self._folder / digest, grave):
                continue
            # in this order: an upload that has ended by now has published before it ended
            if digest in self._arriving() or digest in needed():
                _moved(grave, self._folder / digest)
            else:
                removed.append(digest)
                with suppress(FileNotFoundError):
                    self._shared.remove(grave / WEIGHTS)
            shutil.rmtree(grave, ignore_errors=True)
        self._remove_abandoned()
        if self._storing is not None:
            # not what was deployed again meanwhile
            self._storing.remove([*{*removed} - self._arriving() - needed()])
        log.info("swept", removed=len(removed))
        return removed

    def _place(self, unpacked: Path, digest: str) -> None:
        target = self._folder / digest
        if not _moved(unpacked, target) and not target.is_dir():
            # swept between the two looks
            unpacked.rename(target)

    def _arriving(self) -> set[str]:
        incoming = self._folder / _INCOMING
        incoming.mkdir(exist_ok=True)
        return {path.name.partition(".")[0] for path in incoming.iterdir()}

    def _remove_abandoned(self) -> None:
        before_s = time.time() - ABANDONED_S
        for path in (self._folder / _INCOMING).iterdir():
            try:
                is_abandoned = path.stat().st_mtime < before_s
            except FileNotFoundError:
                continue  # its upload has just ended
            if is_abandoned:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _room_needed() -> Iterator[None]:
    """Turn what a full disk, a quota or a limit on files says into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        log.warning("storage_full", reason=error)
        raise StorageFull() from error


def _moved(source: Path, target: Path) -> bool:
    """Rename a folder; False where the target exists or the source is gone."""
    try:
        source.rename(target)
    except (FileExistsError, FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        if target.is_dir():
            return False
        raise
    return True


def _unpack(recorder: Recorder, folder: Path) -> None:
    seen: set[str] = set()
    for member in members(recorder.read):
        name = _checked_name(member)
        if name in seen:
            raise TarError(f"{name!r} twice")
        seen.add(name)
        if len(seen) > MAX_MEMBERS:
            raise TarError(f"more than {MAX_MEMBERS} files")
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with recorder.inside(name, member.size_bytes), path.open("xb") as file:
                write_in_pieces(file, member.chunks)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise TarError(f"{name!r} is both a file and a folder") from error


def _checked_name(member: Member) -> str:
    """The member's name, if it is one that an artifact may have."""
    name = member.name
    if name in (MANIFEST, GRAPH, WEIGHTS, HANDLER) or _BUCKET_GRAPH.fullmatch(name):
        return name
    parts = name.removeprefix(INCLUDED).split("/")
    is_plain = name.isprintable() and len(name) <= MAX_NAME_CHARS and "\\" not in name
    if not name.startswith(INCLUDED) or not is_plain or any(p in ("", ".", "..") for p in parts):
        raise TarError(f"a file named {name[:100]!r}, which an artifact does not have")
    return name
