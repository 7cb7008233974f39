"""How a worker ends: when it has drained, or at once where it no longer does its work."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Thread
from typing import NoReturn

from contract.errors import StoreUnavailable
from contract.log import Log
from contract.store import Store
from workers.executor import Executor
from workers.handlers.hosts import Hosts
from workers.handlers.log_writer import LogWriter
from workers.watchdog import DRAIN_INCOMPLETE

log = Log("worker")
LOG_CLOSE_S = 1.0
# The exit status of a worker that its watchdog ended; 1 where a drain took too long.
STOPPED_WORKING = os.EX_SOFTWARE
# A store that does not answer by then finds the jobs by itself.
GIVE_UP_S = 2.0


@dataclass(frozen=True)
class Leaving:
    """What has to be given back at the end."""

    worker: str
    store: Store
    executor: Executor
    hosts: Sequence[Hosts]
    logs: LogWriter
    max_attempts: int

    def drained(self) -> None:
        """Give back what was claimed for this worker and not started, and close everything."""
        try:
            handed_back = self.store.queue.hand_back(self.worker)
            self.store.workers.forget(self.worker)
            log.info("drained", handed_back=handed_back)
        except StoreUnavailable:
            log.warning("hand_back_failed")
        self.executor.stop()
        for hosts in self.hosts:
            hosts.stop()
        self.logs.close(LOG_CLOSE_S)

    def at_once(self, reason: str) -> NoReturn:
        """End the process though threads hang: none can be stopped from outside.

        Its jobs are queued again now, not when their leases run out. The attempt counts, so that a
        job which hangs every worker fails in the end. Handler hosts end with this process.
        """
        log.warning("leaves_at_once", reason=reason)
        self.executor.stop()
        giving_up = Thread(target=self._give_up_jobs, daemon=True)
        giving_up.start()
        giving_up.join(GIVE_UP_S)
        self.logs.close(LOG_CLOSE_S)
        if reason == DRAIN_INCOMPLETE:
            os._exit(1)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(STOPPED_WORKING)

    def _give_up_jobs(self) -> None:
        try:
            queued, failed = self.store.queue.reap_worker(self.worker, self.max_attempts)
            self.store.workers.forget(self.worker)
            log.warning("jobs_given_up", requeued=queued, failed=failed)
        except StoreUnavailable:
            log.warning("jobs_left_to_leases")
