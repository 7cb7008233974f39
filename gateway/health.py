"""Is the process alive, and could it answer."""

from __future__ import annotations

from contract.errors import Unavailable
from gateway.answer import Answer, json_answer
from gateway.context import Gateway


def healthy() -> Answer:
    """GET /healthz: this process answers; nothing else is asked."""
    return json_answer({"status": "ok"})


def ready(gateway: Gateway) -> Answer:
    """GET /readyz: a deployed function could be answered; raises Unavailable saying what lacks."""
    if gateway.draining.is_set():
        raise Unavailable("The gateway drains.", missing=["gateway"])
    store = gateway.store
    store.server.ping()
    lacks = {
        "scheduler": not store.workers.is_led("scheduler"),
        "worker": all(worker.is_draining for worker in store.workers.all()),
        "function": not store.functions.all(),
    }
    missing = [name for name, is_missing in lacks.items() if is_missing]
    if missing:
        raise Unavailable(f"Not ready: there is no {' and no '.join(missing)}.", missing=missing)
    return json_answer({"status": "ready"})
