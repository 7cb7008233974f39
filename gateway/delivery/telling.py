"""From the outbox to the lanes: each ended job is given a delivery for every destination it has."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

from contract.delivery import Delivery, State
from contract.destinations import parse
from contract.errors import InvalidInput, StoreUnavailable, UnknownJob, WorkerLost
from contract.job import JobId, Status
from contract.log import Log
from contract.settings import Settings
from contract.store import Store
from contract.store.deliveries import Bounds, Ended, Head

log = Log("delivery")
AT_ONCE = 128
# The stop event is looked at this often.
LOOK_S = 0.5
# What is too old among dead letters goes this often.
SWEEP_S = 60.0
# Ends that may be worth another try; who cancels a job has given it up himself.
_DEAD = (Status.FAILED, Status.EXPIRED, Status.REFUSED)


def bounds_of(settings: Settings) -> Bounds:
    """The bounds of dead letters."""
    return Bounds(settings.dlq_letters, settings.dlq_bytes)


def tell(store: Store, settings: Settings, stop: Event, wake: Callable[[], object]) -> None:
    """Take ended jobs out of the outbox until `stop`; `wake` is called when deliveries wait."""
    link = store.server.blocking()
    swept_at_s = 0.0
    try:
        while not stop.is_set():
            try:
                if time.monotonic() - swept_at_s >= SWEEP_S:
                    store.dead_letters.purge_until(time.time() - settings.dlq_ttl_s)
                    swept_at_s = time.monotonic()
                ended = store.deliveries.wait(link, AT_ONCE, LOOK_S)
                spread(store, settings, ended)
            except StoreUnavailable as error:
                log.warning("outbox_unread", reason=error)
                stop.wait(LOOK_S)
                continue
            if ended:
                wake()
    finally:
        link.close()


def spread(store: Store, settings: Settings, ended: list[Ended]) -> None:
    """Have what is told of these jobs wait in its lanes; more often is harmless."""
    bounds = bounds_of(settings)
    heads = store.deliveries.heads([entry.job for entry in ended])
    for entry, head in zip(ended, heads, strict=True):
        deliveries = [] if head is None else _deliveries(entry, head)
        reason = "" if head is None else _reason(store, entry.job, head)
        store.deliveries.spread(entry, deliveries, reason, bounds, time.time())


def _deliveries(entry: Ended, head: Head) -> list[tuple[str, Delivery]]:
    """A delivery for each who hears of this end, with its lane."""
    origin = head.origin
    texts = origin.on_success if head.status is Status.SUCCEEDED else origin.on_failure
    # entries are numbered by the milliseconds at which the job ended
    ended_at_s = int(entry.entry.partition("-")[0]) / 1000
    found = []
    for text in texts:
        try:
            lane = parse(text).lane
        except InvalidInput as error:
            # doors write destinations of their own; what is none of ours is said, not lost
            log.warning("destination_not_understood", job=entry.job, reason=error.detail)
            continue
        found.append((lane, Delivery(text, State.WAITING, ended_at_s, ended_at_s)))
    return found


def _reason(store: Store, job_id: JobId, head: Head) -> str:
    """Why a job is a dead letter, or ""."""
    if not head.origin.is_kept or head.status not in _DEAD:
        return ""
    try:
        outcome = store.jobs.get(job_id).outcome
    except UnknownJob:
        # it went since its status was read, as where the store was emptied
        return ""
    assert outcome is not None
    assert outcome.error is not None
    code = str(outcome.error["code"])
    # every attempt of it ended with its worker
    return "retries_exhausted" if code == WorkerLost.code else code
