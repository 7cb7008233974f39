"""The scheduler process: `python -m workers.scheduling`."""

from __future__ import annotations

import os
import signal
import sys
from threading import Event

from contract.log import configure
from contract.settings import SettingError, read_settings
from contract.store import open_store
from workers.celery_app import Sender, make_app
from workers.scheduling.loop import Scheduler


def main() -> None:
    """Schedule until SIGTERM or SIGINT."""
    try:
        settings = read_settings(os.environ)
    except SettingError as error:
        sys.exit(str(error))
    configure(settings.log_level)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    store = open_store(settings.redis_url, settings.result_ttl_s)
    Scheduler(settings, store, Sender(make_app(settings)).send).run(stop)
    store.close()


if __name__ == "__main__":
    main()
