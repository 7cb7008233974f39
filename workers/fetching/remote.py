"""The one module that speaks fsspec: the bytes of an artifact, from wherever its URL says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

from contract.artifacts import key_of
from contract.errors import ArtifactUnavailable
from contract.log import Log

log = Log("fetching")
# Read side by side, and again by itself where a connection breaks.
CHUNK_BYTES = 8 * 2**20
CHUNKS_AT_ONCE = 4
TRIES = 4
FIRST_WAIT_S = 0.2
# what cannot be helped by asking again: HTTP's status for want of the artifact, or of a key
MISSING = (404,)
REFUSED = (401, 403)
# Without a byte for so long, a connection is taken for broken.
SILENCE_S = 10.0


class Remote:
    """The artifacts below a URL; thread-safe. `key`: the API key that a gateway asks for."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self._stopped = Event()
        self._threads = ThreadPoolExecutor(CHUNKS_AT_ONCE, "fetching")

    def size_bytes(self, digest: str) -> int:
        """Of the artifact's tar; raises ArtifactUnavailable."""

        def ask() -> int:
            fs, base = self._open()
            return int(fs.size(key_of(base, digest)))

        found: int = self._patiently(ask, digest)
        return found

    def fetch(self, digest: str, size_bytes: int, path: Path) -> None:
        """Write the artifact's tar into a new file; raises ArtifactUnavailable and OSError.

        What does not have the digest, cut short or changed on its way, is never left there.
        """
        with path.open("xb") as file:
            file.truncate(size_bytes)
            futures = [
                self._threads.submit(self._fetch_chunk, digest, start, size_bytes, file.fileno())
                for start in range(0, size_bytes, CHUNK_BYTES)
            ]
            try:
                actual = _digest_of(futures, path)
            finally:
                for future in futures:
                    future.cancel()
                # no thread writes to a file that is closed
                for future in futures:
                    future.cancelled() or future.exception()
        if actual != digest:
            path.unlink()
            log.warning("digest_differs", expected=digest, actual=actual)
            raise ArtifactUnavailable(f"artifact {digest}: what was fetched has another digest")

    def stop(self) -> None:
        """Try nothing again."""
        self._stopped.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fetch_chunk(self, digest: str, start: int, size_bytes: int, file: int) -> None:
        end = min(start + CHUNK_BYTES, size_bytes)

        def read() -> bytes:
            fs, base = self._open()
            data: bytes = fs.cat_file(key_of(base, digest), start=start, end=end)
            if len(data) != end - start:
                raise ConnectionError(f"expected {end - start} bytes at {start}, got {len(data)}")
            return data

        data, done = self._patiently(read, digest), 0
        while done < len(data):
            done += os.pwrite(file, data[done:], start + done)

    def _patiently(self, ask: Callable[[], Any], digest: str) -> Any:
        """What `ask` gives, asked again where the way there may be broken."""
        wait_s = FIRST_WAIT_S
        for left in reversed(range(TRIES)):
            try:
                return ask()
            except Exception as error:  # each file system raises its own
                status = _status_of(error)
                if status in MISSING:
                    raise ArtifactUnavailable(
                        f"artifact {digest}: there is none at the URL"
                    ) from error
                log.warning("not_fetched", artifact=digest, left=left, reason=repr(error)[:300])
                if status in REFUSED:
                    raise ArtifactUnavailable(
                        f"artifact {digest}: refused; FUSEBOX_ARTIFACTS_KEY needs the scope deploy"
                    ) from error
                if not left or self._stopped.wait(wait_s):
                    raise ArtifactUnavailable(
                        f"artifact {digest}: it could not be fetched ({type(error).__name__})"
                    ) from error
                wait_s *= 2
        raise AssertionError

    def _open(self) -> tuple[Any, str]:
        import fsspec  # only where artifacts are fetched

        options = _options(self._url, self._key)
        # instances are kept by fsspec, by URL and options
        fs, base = fsspec.core.url_to_fs(self._url, **options)
        return fs, str(base)


def _options(url: str, key: str) -> dict[str, Any]:
    """What the file system behind a URL is told."""
    if url.startswith("http"):
        from aiohttp import ClientTimeout

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = ClientTimeout(sock_connect=SILENCE_S, sock_read=SILENCE_S)
        return {"client_kwargs": {"headers": headers, "timeout": timeout}}
    if url.startswith("s3"):
        # credentials and endpoint are in the environment, as AWS names them
        config = {"connect_timeout": SILENCE_S, "read_timeout": SILENCE_S}
        return {"config_kwargs": config}
    return {}


def _status_of(error: Exception) -> int | None:
    """HTTP's status of what went wrong, 404 for a file that is not there; None for a broken way.

    Behind HTTP fsspec says that there is no file, whatever the reason, which is the cause.
    """
    if isinstance(error, FileNotFoundError):
        cause = error.__cause__
        return 404 if cause is None else getattr(cause, "status", _of_system(cause))
    return getattr(error, "status", None)


def _of_system(cause: BaseException) -> int | None:
    # a connection that could not be made is an OSError too
    return 404 if isinstance(cause, FileNotFoundError) or _is_of_s3(cause) else None


def _is_of_s3(cause: BaseException) -> bool:
    response = getattr(cause, "response", None)
    return isinstance(response, dict) and "Error" in response


def _digest_of(futures: list[Future[None]], path: Path) -> str:
    """SHA-256 of a file whose chunks come in, read behind them; raises what they raise."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for future in futures:
            future.result()
            found.update(file.read(CHUNK_BYTES))
    return found.hexdigest()
