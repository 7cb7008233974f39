"""A store without a platform."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis.exceptions import ConnectionError as NotThere

from contract.function import Manifest
from contract.store import Store, open_store
from contract.tensors import TensorSpec
from deploy.embedded_store import server_command

START_S = 10.0
X = TensorSpec("x", "float32", (None, 4))
MANIFEST = Manifest(
    "a" * 64, (X,), (X,), 4, 16, {1: 32}, 2, 1, 8, True, False, False, None, 20_000, None
)


@contextmanager
def empty_store() -> Iterator[Store]:
    """A store of its own, which knows one function, `echo`."""
    with tempfile.TemporaryDirectory(prefix="fb-") as name:
        socket = Path(name) / "s"
        command = server_command(Path(name), socket, "everysec")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        store = open_store(f"unix://{socket}", result_ttl_s=60)
        try:
            _wait(store)
            store.functions.publish("echo", "b" * 64, MANIFEST)
            yield store
        finally:
            store.close()
            process.terminate()
            process.wait(START_S)


def _wait(store: Store) -> None:
    give_up_at_s = time.monotonic() + START_S
    while True:
        try:
            store.server.redis.ping()
        except NotThere:
            assert time.monotonic() < give_up_at_s, "the store does not start"
            time.sleep(0.01)  # its socket is not there yet, so there is nothing to wait on
        else:
            return
