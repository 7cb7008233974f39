"""The scheduler process: `python -m workers.scheduling`."""

from __future__ import annotations

import os
import signal
import sys
from threading import Event, Thread

from contract.heap import settle_heap
from contract.log import Log, configure
from contract.settings import SettingError, read_settings
from contract.store import open_store
from workers.celery_app import Envelopes, make_app
from workers.scheduling.loop import Scheduler

log = Log("scheduler")


def main() -> None:
    """Schedule until SIGTERM or SIGINT."""
    try:
        settings = read_settings(os.environ)
    except SettingError as error:
        sys.exit(str(error))
    configure(settings.log_level)
    # networks of a policy are too small for more threads, and the cores are the workers'
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Taken by sigwait below: a handler could not set an event, whose lock it may have interrupted.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    store = open_store(settings.redis_url, settings.result_ttl_s)
    envelopes = Envelopes(make_app(settings))
    scheduler = Scheduler(settings, store, envelopes.seal)
    stop = Event()
    thread = Thread(target=_run, args=(scheduler, stop), name="scheduler")
    settle_heap()
    thread.start()
    signal.sigwait(ends)
    stop.set()
    thread.join(settings.drain_s)
    if thread.is_alive():
        # it waits for a store that does not answer; its lease runs out, and the standby leads
        log.warning("drain_incomplete")
        os._exit(1)
    envelopes.close()
    store.close()


def _run(scheduler: Scheduler, stop: Event) -> None:
    """Schedule; an unknown error ends the process, and its supervisor starts another."""
    try:
        scheduler.run(stop)
    except Exception:
        log.exception("scheduler_failed")
        os.kill(os.getpid(), signal.SIGTERM)
        raise


if __name__ == "__main__":
    main()
