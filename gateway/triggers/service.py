"""Triggers under the lead of the events process.

Times have a thread, streams one, folders some, so that none waits for another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread

from contract.errors import StoreUnavailable
from contract.log import Log
from contract.trigger import Kind
from gateway.context import Gateway
from gateway.triggers.book import Book
from gateway.triggers.crons import Crons
from gateway.triggers.streams import Streams
from gateway.triggers.watches import Watches

log = Log("triggers")
# Whether definitions have changed is asked this often.
REFRESH_S = 0.5
# Streams, and jobs of their entries, are looked at this often while nothing comes.
LOOK_S = 0.2
RETRY_S = 0.5
# Folders looked at side by side: one that does not answer holds a thread.
FOLDERS_AT_ONCE = 4


def run(gateway: Gateway, stop: Event) -> None:
    """Fire what is due until `stop`; raises what a thread of it raises."""
    watches = Watches(gateway)
    over = Event()
    failures: list[BaseException] = []
    bodies: list[Callable[[], None]] = [
        lambda: _run_crons(gateway, over),
        lambda: _run_streams(gateway, over),
        lambda: _refresh_watches(gateway, watches, over),
        *(lambda: _run_watches(watches, over) for _ in range(FOLDERS_AT_ONCE)),
    ]

    def guard(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001  # raised again by `run`
            failures.append(error)

    threads = [Thread(target=guard, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    while not stop.wait(REFRESH_S) and not failures:
        continue
    over.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _run_crons(gateway: Gateway, stop: Event) -> None:
    book, crons = Book(gateway.store.triggers), Crons(gateway)

    def turn() -> float:
        book.follow(lambda: crons.set(book.of(Kind.CRON)))
        crons.fire(time.time())
        return min(REFRESH_S, max(0.0, crons.next_s - time.time()))

    _repeat(turn, stop)


def _run_streams(gateway: Gateway, stop: Event) -> None:
    book, streams = Book(gateway.store.triggers), Streams(gateway)
    refresh_at_s = 0.0

    def turn() -> float:
        nonlocal refresh_at_s
        if time.monotonic() >= refresh_at_s:
            book.follow(lambda: streams.set(book.of(Kind.STREAM)))
            refresh_at_s = time.monotonic() + REFRESH_S
        if streams.turn(time.time()):
            return 0.0
        return LOOK_S if streams.has_any else REFRESH_S

    _repeat(turn, stop)


def _refresh_watches(gateway: Gateway, watches: Watches, stop: Event) -> None:
    book = Book(gateway.store.triggers)

    def turn() -> float:
        book.follow(lambda: watches.set(book.of(Kind.WATCH)))
        return REFRESH_S

    _repeat(turn, stop)


def _run_watches(watches: Watches, stop: Event) -> None:
    def turn() -> float:
        return 0.0 if watches.turn() else min(REFRESH_S, watches.next_in_s)

    _repeat(turn, stop)


def _repeat(turn: Callable[[], float], stop: Event) -> None:
    """Take turns until `stop`; each says in how many seconds the next one is."""
    wait_s = 0.0
    while not stop.wait(wait_s):
        try:
            wait_s = turn()
        except StoreUnavailable:
            # what was not noted as done is done again, and found by its claims
            log.warning("store_unavailable")
            wait_s = RETRY_S
