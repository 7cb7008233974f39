"""What the scheduler tells a worker of functions whose jobs wait: hints, lost without harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from threading import Event

from contract import keys
from contract.function import FunctionRef
from contract.store.server import Server, store_errors
from contract.store.subscription import subscribe

Hear = Callable[[list[FunctionRef]], None]


def tell(server: Server, worker: str, functions: Iterable[FunctionRef]) -> None:
    """Replace what the worker knows of what is coming, the most urgent first."""
    with store_errors():
        server.redis.publish(keys.coming(worker), json.dumps([str(ref) for ref in functions]))


def listen(server: Server, worker: str, hear: Hear, stop: Event) -> None:
    """Call `hear` with each list until `stop` is set; with none after a lost connection."""
    subscribe(
        server,
        keys.coming(worker),
        lambda data: hear([FunctionRef.parse(text) for text in json.loads(data)]),
        lambda: hear([]),
        stop,
    )
