"""The worker process: `python -m workers.worker`. One device, one process, a pool of threads."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import sys
from types import FrameType

from contract.log import configure
from contract.settings import SettingError, read_settings
from contract.store import open_store
from workers.memory import set_up_libraries, set_up_malloc


def worker_id(device: str) -> str:
    """`<host>-<device>-<pid>-<nonce>`: unlike that of any earlier process, safe in a Redis key."""
    host = re.sub(r"[^a-zA-Z0-9-]", "-", socket.gethostname())[:40]
    return f"{host}-{device.replace(':', '')}-{os.getpid()}-{secrets.token_hex(3)}"


def main() -> None:
    """Work until SIGTERM or SIGINT, then drain."""
    try:
        settings = read_settings(os.environ)
    except SettingError as error:
        sys.exit(str(error))
    configure(settings.log_level)
    # until the consuming loop drains on them they end the process: nothing is held yet
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    # before torch is imported, for its libraries allocate and start threads
    set_up_libraries(os.environ, settings.memory_budget_bytes)
    set_up_malloc()
    from workers.wiring import work

    store = open_store(settings.redis_url, settings.result_ttl_s)
    work(settings, store, worker_id)
    store.close()


def _exit(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
