"""The Celery side of a worker: one queue, a pool of threads, a heartbeat in the consuming loop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from celery import Celery, bootsteps
from celery.app.trace import setup_worker_optimizations
from celery.worker import WorkController, state
from celery.worker.consumer.tasks import Tasks
from kombu.entity import Queue

from contract.errors import FuseboxError
from contract.job import JobId
from contract.log import Log
from workers.celery_app import RUN_GROUP
from workers.claims import Claims
from workers.heartbeat import Heartbeat

log = Log("worker")
TURN_S = 0.25
RunGroup = Callable[[str, list[JobId]], None]


class Drain:
    """Leaves the consuming loop on a signal, when no group is under way.

    How long that may take is the watchdog's to say.
    """

    def __init__(self, queue: str, heartbeat: Heartbeat, claims: Claims) -> None:
        self._queue = queue
        self._heartbeat = heartbeat
        self._claims = claims
        self._consumer: Any = None
        self._asked_at_s: float | None = None
        # a signal wakes the loop through this socket, whatever the loop waits for
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Drain on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)

    def asked_s(self) -> float | None:
        """Seconds since the signal; None before it."""
        asked_at_s = self._asked_at_s
        return None if asked_at_s is None else time.monotonic() - asked_at_s

    def enter_loop(self, consumer: Any, hub: Any) -> None:
        """The loop of a (new) connection begins."""
        self._consumer = consumer
        hub.add_reader(self._woken, self._begin, hub)
        if self._asked_at_s is not None:
            self._stop()

    def leave_loop(self) -> None:
        """The connection is lost or the worker stops."""
        self._consumer = None

    def _on_signal(self, _number: int, _frame: object) -> None:
        if self._asked_at_s is None:
            self._asked_at_s = time.monotonic()
        if self._consumer is None:
            # no loop runs: Celery looks at this between its attempts to connect
            self._stop()

    def _begin(self, hub: Any) -> None:
        # other signals wake the loop too
        if not self._woken.recv(4096) or self._asked_at_s is None:
            return
        log.info("draining")
        self._heartbeat.drain()
        self._consumer.task_consumer.cancel_by_queue(self._queue)
        self._claims.on_idle = lambda: hub.call_soon(self._stop)
        if self._claims.is_idle:
            self._stop()

    def _stop(self) -> None:
        state.should_stop = os.EX_OK


class Turns:
    """Counts the turns of the consuming loop, a few a second."""

    def __init__(self) -> None:
        self.count = 0

    def turn(self) -> None:
        """The loop has come round."""
        self.count += 1


class Occasions(NamedTuple):
    """What is called from the consuming loop."""

    # before the very first heartbeat, when all else has started
    on_first: Callable[[], None]
    # after it: groups may come
    on_ready: Callable[[], None]
    on_turn: Callable[[], None]


def make_step(
    heartbeat: Heartbeat, drain: Drain, occasions: Occasions
) -> type[bootsteps.StartStopStep]:
    """A step of Celery's consumer that beats in its loop; Celery makes the instance."""

    class Beat(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery is untyped
        """Registers anew with the loop of every connection."""

        requires = (Tasks,)
        is_first = True

        def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
            is_first, self.is_first = self.is_first, False
            if is_first:
                occasions.on_first()
            heartbeat.beat()
            if is_first:
                occasions.on_ready()
            hub.call_repeatedly(heartbeat.rhythm.heartbeat_s, heartbeat.beat)
            hub.call_repeatedly(TURN_S, occasions.on_turn)
            drain.enter_loop(consumer, hub)

        def stop(self, _consumer: Any) -> None:
            drain.leave_loop()

    return Beat


def register(app: Celery, run_group: RunGroup) -> None:
    """Make `run_group` the task that the scheduler sends."""

    def run(group: str, jobs: list[str]) -> None:
        try:
            run_group(group, [JobId(job) for job in jobs])
        except FuseboxError:
            # Celery would log it to a logger of its own
            log.exception("group_failed", group=group)

    app.task(run, name=RUN_GROUP)


def consume(app: Celery, queue: str, places: int, step: type[bootsteps.StartStopStep]) -> None:
    """Run groups from the queue until a drain or an unrecoverable error ends the loop."""
    # Acknowledgements would cost three round trips per group and protect nothing: the job record
    # is the truth, and its lease brings a lost group back.
    only = Queue(queue, routing_key=queue, no_ack=True)  # type: ignore[no-untyped-call]  # kombu
    app.conf.task_queues = [only]
    app.steps["consumer"].add(step)
    logging.getLogger("celery").setLevel(logging.WARNING)
    name = f"worker@{queue}"
    setup_worker_optimizations(app, name)
    controller = WorkController(
        app=app,
        hostname=name,
        pool_cls="threads",
        concurrency=places,
        queues=[queue],
        task_events=False,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
    )
    controller.start()
    if controller.exitcode:
        raise SystemExit(controller.exitcode)
