"""The one package that speaks Redis.

`open_store(settings.redis_url)` connects; the parts are grouped by what they keep:
`jobs` (submit, watch, settle), `events` (progress, and who follows), `queue` (what scheduler and
workers do with jobs), `functions` (the registry), `aliases`, `workers`, `telemetry` (counters and
logs), `api_keys`, `costs` (what the scheduler has learned), `scheduling` (what it says of itself,
and the groups that ran), `deliveries` (who is told of ended jobs), `dead_letters`, `triggers`,
`wanted` (where weights should be).
"""

from __future__ import annotations

from dataclasses import dataclass

from contract.store.access import ApiKeys
from contract.store.aliases import Aliases
from contract.store.costs import LearnedCosts
from contract.store.dead_letters import DeadLetters
from contract.store.deliveries import Deliveries
from contract.store.events import Events
from contract.store.functions import Functions
from contract.store.jobs import Jobs
from contract.store.queue import Queue
from contract.store.scheduling import Scheduling
from contract.store.server import Server
from contract.store.telemetry import Telemetry
from contract.store.triggers import Triggers
from contract.store.wanted import Wanted
from contract.store.workers import Workers

__all__ = ["Store", "open_store"]


@dataclass(frozen=True)
class Store:
    """Everything that is kept, over one connection pool."""

    server: Server
    jobs: Jobs
    queue: Queue
    functions: Functions
    workers: Workers
    telemetry: Telemetry
    api_keys: ApiKeys
    costs: LearnedCosts
    scheduling: Scheduling
    aliases: Aliases
    deliveries: Deliveries
    dead_letters: DeadLetters
    triggers: Triggers
    events: Events
    wanted: Wanted

    def close(self) -> None:
        """Close every connection."""
        self.server.close()


def open_store(redis_url: str, result_ttl_s: float = 86_400.0) -> Store:
    """A store over the server at this URL; connects at the first command."""
    server = Server(redis_url)
    return Store(
        server,
        Jobs(server, result_ttl_s),
        Queue(server, result_ttl_s),
        Functions(server, result_ttl_s),
        Workers(server),
        Telemetry(server),
        ApiKeys(server),
        LearnedCosts(server),
        Scheduling(server),
        Aliases(server),
        Deliveries(server),
        DeadLetters(server, result_ttl_s),
        Triggers(server),
        Events(server, result_ttl_s),
        Wanted(server),
    )
