"""The events process: `python -m gateway.events`."""

from __future__ import annotations

import os
import signal
import sys
from threading import Event, Thread

from contract.heap import settle_heap
from contract.log import Log, configure
from contract.settings import SettingError, read_settings
from contract.store import open_store
from gateway.context import Gateway
from gateway.events.lead import Leader
from gateway.events.services import SERVICES

log = Log("events")


def main() -> None:
    """Lead or stand by until SIGTERM or SIGINT."""
    try:
        settings = read_settings(os.environ)
    except SettingError as error:
        sys.exit(str(error))
    configure(settings.log_level)
    # Taken by sigwait below: a handler could not set an event, whose lock it may have interrupted.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    store = open_store(settings.redis_url, settings.result_ttl_s)
    gateway = Gateway.wire(settings, store)
    stop, failed = Event(), Event()
    leader = Leader(gateway, SERVICES)
    thread = Thread(target=_run, args=(leader, stop, failed), name="leader", daemon=True)
    settle_heap()
    thread.start()
    signal.sigwait(ends)
    stop.set()
    thread.join(settings.drain_s)
    if thread.is_alive() or failed.is_set():
        # a thread that waits for something would keep the process; its lease runs out
        log.warning("drain_incomplete" if thread.is_alive() else "failed")
        os._exit(1)
    gateway.replies.close()
    store.close()


def _run(leader: Leader, stop: Event, failed: Event) -> None:
    """Lead; an unknown error ends the process: its supervisor starts another, the standby leads."""
    try:
        leader.run(stop)
    except Exception:
        log.exception("events_failed")
        failed.set()
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
